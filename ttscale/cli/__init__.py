"""The command `ttscale`; one file a sub-command."""

from ttscale.cli.app import main
from ttscale.cli.parser import help_pages

__all__ = ["help_pages", "main"]
