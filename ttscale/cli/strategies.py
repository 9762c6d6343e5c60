"""`ttscale strategies`: what can be run, and with which settings."""

from __future__ import annotations

import dataclasses
import inspect

from rich.table import Table
from rich.text import Text

from ttscale.cli.codes import DONE
from ttscale.cli.screen import Screen
from ttscale.esamp.settings import ESamp
from ttscale.sampling import Sampler
from ttscale.strategies import NAMES


def run(screen: Screen) -> int:
    """List every strategy, then the settings of samplers and of ESamp."""
    for name, settings in {**NAMES, "sampler": Sampler, "sampler.esamp": ESamp}.items():
        about = (inspect.getdoc(settings) or "").splitlines()[0]
        screen.show(f"{name}: {about}", settings_table(settings), "")
    return DONE


def settings_table(settings: type) -> Table:
    """The fields of a dataclass with their types and defaults."""
    table = Table(box=None, show_header=False)
    for field in dataclasses.fields(settings):
        table.add_row(Text(f"  {field.name}"), Text(str(field.type)), Text(_default(field)))
    return table


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        name = getattr(field.default, "__name__", None)  # of a function, whose repr is an address
        return f"default {name or repr(field.default)}"
    if field.default_factory is dataclasses.MISSING:
        return "required"
    made = type(field.default_factory()).__name__
    return "default as below" if field.name == "sampler" else f"default {made}()"
