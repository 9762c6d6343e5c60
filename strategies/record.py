"""What a run has found out so far, kept so that it can go on later."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ttscale.errors import InvalidInput
from ttscale.strategies.protocol import Ask, Draw, Result
from ttscale.types import Candidate, Prompt, Samples
from ttscale.verifiers import ScoreSheet

if TYPE_CHECKING:
    from ttscale.strategies._record_line import Line


@dataclass(frozen=True, slots=True)
class Head:
    """Which run a record belongs to."""

    strategy: str
    prompt: Prompt
    seed: int | None


class Record:
    """The samples and scores of one run of a strategy on one prompt.

    Give it to `run`, and later to another `run` with the same strategy, prompt and seed: what it
    holds is not drawn again. Of a draw that was not complete, the samples that had finished are
    kept and only the others are drawn, with another seed. Do not change the strategy's settings in
    between, but for the budget.

    >>> record = Record()
    >>> record.samples
    0

    Attributes:
        path: Where every sample is added as it finishes, one JSON object a line; None for nowhere.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._head: Head | None = None
        self._told: dict[int, tuple[str, Result]] = {}
        self._partial: dict[int, tuple[str, dict[int, Candidate]]] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """The record that was saved at `path`.

        A last line that is broken, as after a crash, is left out.

        Raises:
            InvalidInput: The file cannot be read, or is no record.
        """
        made = cls()
        for line in _lines(Path(path)):
            made._take(line)
        return made

    @classmethod
    def open(cls, path: str | Path) -> Record:
        """The record at `path`, or a new one, which is added to that file as the run goes on.

        Raises:
            InvalidInput: There is a file that cannot be read or is no record.
        """
        made = cls.load(path) if Path(path).exists() else cls()
        made.save(path)
        made.path = Path(path)
        return made

    def save(self, path: str | Path) -> None:
        """Write everything to `path`, as one JSON object a line."""
        text = "".join(line.text + "\n" for line in self._everything())
        Path(path).write_text(text, encoding="utf-8")

    @property
    def samples(self) -> int:
        """Number of samples that it holds."""
        told = sum(len(r.candidates) for _, r in self._told.values() if isinstance(r, Samples))
        return told + sum(len(found) for _, found in self._partial.values())

    def begin(self, head: Head) -> None:
        """Say which run this is.

        Raises:
            InvalidInput: The record is that of another run.
        """
        if self._head is not None and self._head != head:
            raise InvalidInput(
                f"the record is of strategy {self._head.strategy!r} with seed {self._head.seed} on "
                f"{self._head.prompt.question!r}; run the same again, or take a new record"
            )
        if self._head is None:
            self._add(_line(head=head))

    def told(self, ask: Ask) -> Result | None:
        """What `ask` was told; None when that is not known.

        Raises:
            InvalidInput: It was told to a draw with other settings.
        """
        key, result = self._told.get(ask.id, ("", None))
        if result is None or key == fingerprint(ask):
            return result
        if isinstance(ask, Draw):
            raise self._changed()
        return None  # more samples than before: they are scored anew

    def finished(self, ask: Draw) -> Mapping[int, Candidate]:
        """The samples of an incomplete draw, by index."""
        key, found = self._partial.get(ask.id, ("", {}))
        if found and key != fingerprint(ask):
            raise self._changed()
        return dict(found)

    def keep(self, ask: Draw, candidate: Candidate) -> None:
        """One sample of `ask` has finished. May be called from any thread."""
        self._add(_line(id=ask.id, key=fingerprint(ask), candidate=candidate))

    def tell(self, ask: Ask, result: Result) -> None:
        """`ask` has been told `result`."""
        samples = result if isinstance(result, Samples) else None
        sheet = result if isinstance(result, ScoreSheet) else None
        self._add(_line(id=ask.id, key=fingerprint(ask), samples=samples, sheet=sheet))

    def _add(self, line: Line) -> None:
        with self._lock:
            self._take(line)
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(line.text + "\n")

    def _take(self, line: Line) -> None:
        result = line.samples or line.sheet
        if line.head is not None:
            self._head = line.head
        elif result is not None:
            self._told[line.id] = (line.key, result)
            self._partial.pop(line.id, None)
        elif line.candidate is not None:
            _, found = self._partial.setdefault(line.id, (line.key, {}))
            found[line.candidate.index] = line.candidate

    def _everything(self) -> Iterator[Line]:
        if self._head is not None:
            yield _line(head=self._head)
        for number, (key, result) in self._told.items():
            samples = result if isinstance(result, Samples) else None
            sheet = result if isinstance(result, ScoreSheet) else None
            yield _line(id=number, key=key, samples=samples, sheet=sheet)
        for number, (key, found) in self._partial.items():
            for candidate in found.values():
                yield _line(id=number, key=key, candidate=candidate)

    def _changed(self) -> InvalidInput:
        return InvalidInput(
            "the record was made by a strategy with other settings; run it with the same ones, or "
            "take a new record"
        )


def fingerprint(ask: Ask) -> str:
    """A digest of what is asked, the same in every process."""
    if isinstance(ask, Draw):
        what = repr((ask.prompt, ask.n, ask.sampler))
    else:
        what = repr((ask.verifier.name, ask.prompt, [c.text for c in ask.candidates]))
    return hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@cache
def _line_class() -> type[Line]:
    """Loaded when a record is used: pydantic takes a while."""
    from ttscale.strategies._record_line import Line

    return Line


def _line(**entries: object) -> Line:
    return _line_class()(**entries)  # type: ignore[arg-type]


def _lines(path: Path) -> list[Line]:
    """The lines of a file, a broken last one left out."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the record {str(path)!r} cannot be read: {error}") from error
    made: list[Line] = []
    for number, text in enumerate(texts, start=1):
        line = _line_class().of(text)
        if line is not None:
            made.append(line)
        elif number < len(texts):
            raise InvalidInput(f"line {number} of {str(path)!r} is no line of a record")
    return made
