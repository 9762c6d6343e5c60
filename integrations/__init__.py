"""Adapters to other frameworks, one file a framework."""

if __name__ != "ttscale.integrations":  # pragma: no cover
    raise ImportError("import ttscale.integrations, not integrations")
