"""The lines of a record's file, checked when they are read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from ttscale.strategies.record import Head
from ttscale.types import Candidate, Samples
from ttscale.verifiers import ScoreSheet


class Line(BaseModel):
    """One entry: the head, a finished sample of ask `id`, or all that ask `id` was told."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    head: Head | None = None
    id: int = 0
    key: str = ""
    candidate: Candidate | None = None
    samples: Samples | None = None
    sheet: ScoreSheet | None = None

    @property
    def text(self) -> str:
        """The entry as JSON."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def of(cls, text: str) -> Line | None:
        """The entry that a line holds; None for a broken one."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None
