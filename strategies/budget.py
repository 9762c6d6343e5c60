"""What a run may cost."""

from __future__ import annotations

from dataclasses import dataclass

from ttscale import _check
from ttscale.errors import InvalidInput

LONGEST = 1e9  # seconds


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one run; what is None has no limit.

    None of them is ever exceeded. Tokens of a draw are set aside before it starts, as many as it
    could take at most: so a draw that might not fit is split into smaller ones, one after another.
    For a prompt not drawn before, its length in bytes (and some for the chat template) stands for
    its tokens.

    Attributes:
        max_samples: Samples of the question, those that fail or are cancelled included.
        max_tokens: Tokens read and written, samples and verifiers together. Tokens that a verifier
            spends elsewhere than on this engine are not held back.
        deadline_seconds: Wall time. What runs then is stopped.

    Raises:
        InvalidInput: A limit is outside its legal range.
    """

    max_samples: int | None = None
    max_tokens: int | None = None
    deadline_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.max_samples is not None:
            _check.integer("max_samples", self.max_samples, 1)
        if self.max_tokens is not None:
            _check.integer("max_tokens", self.max_tokens, 1)
        if self.deadline_seconds is not None:
            _check.number("deadline_seconds", self.deadline_seconds, 0, LONGEST, open_low=True)


def check_budget(budget: object) -> Budget:
    """The budget; one without limits for None.

    Raises:
        InvalidInput: It is no budget.
    """
    if budget is None:
        return Budget()
    if not isinstance(budget, Budget):
        raise InvalidInput(f"budget must be a Budget or None, got {budget!r}")
    return budget
