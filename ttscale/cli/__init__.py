"""The command `ttscale`; one file a sub-command."""

from ttscale.cli.app import main

__all__ = ["main"]
