"""Measures of a set of samples, as pure functions of arrays and texts."""
