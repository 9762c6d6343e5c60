"""Strategies over samples, one file a strategy."""

if __name__ != "ttscale.strategies":  # pragma: no cover
    raise ImportError("import ttscale.strategies, not strategies")
