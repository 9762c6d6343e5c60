"""The end of a sequence, kept out of the push.

A sample ends once and goes on many times, so what a distiller has learned never predicts the end:
to it the end is always novel, and Eq. 7 pushes samples to stop in the middle of an answer. The
push is to say what a sample means, not how long it is. So no end token may gain on the likeliest
token that goes on; it may lose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ttscale.esamp.transfer import on_device

BLOCK = 256
Head = Callable[[], Tensor | None]
"""The LM head's matrix (vocabulary, hidden); None where logits are not a product with one."""


def argmax(logits: Tensor) -> Tensor:
    """`logits.argmax(dim=1)` of (rows, vocabulary): of the best block, then within it.

    On a CPU torch looks for places one by one, and for values many at a time.
    """
    block = math.gcd(logits.shape[1], BLOCK)
    blocks = logits.view(len(logits), -1, block)
    best = blocks.amax(dim=2).argmax(dim=1, keepdim=True)
    within = blocks.gather(1, best.unsqueeze(2).expand(-1, 1, block)).argmax(dim=2)
    return torch.add(within, best, alpha=block).squeeze(1)


class Endings:
    """The end tokens of a model, and what the push does to their logits.

    Args:
        tokens: Ids of the end tokens, as far as they are known.
        device: Where the logits are.
        head: The LM head, asked for once. Without a matrix the reference's logits are needed.
    """

    def __init__(self, tokens: Sequence[int], device: torch.device, head: Head) -> None:
        self._ids: tuple[int, ...] = ()
        self._device = device
        self._find = head
        self._head: tuple[Tensor | None, Tensor | None] | None = None
        self.add(*tokens)

    def add(self, *tokens: int) -> None:
        """Hold these tokens, too."""
        ids = tuple(sorted({*self._ids, *tokens}))
        if ids != self._ids:
            self._ids, self._head = ids, None
            self._tokens = on_device(list(ids), self._device, torch.long)

    @property
    def known(self) -> bool:
        """Whether there is any token to hold."""
        return bool(self._ids)

    def needs_reference(self) -> bool:
        """Whether `hold` has to be given the reference's logits."""
        return self._rows()[0] is None

    def hold(
        self, logits: Tensor, change: Tensor, holds: Tensor, reference: Tensor | None = None
    ) -> None:
        """Lower the end tokens' logits, in place, to what they may gain.

        Args:
            logits: (rows, vocabulary), of the mixed states.
            change: (rows, hidden), mixed minus reference states.
            holds: (rows, 1), 1 for the rows that are held and 0 for the others.
            reference: (rows, vocabulary), of the reference states; only where it is needed.
        """
        head, ends = self._rows()
        other = self._likeliest_other(logits)
        if head is not None and ends is not None:
            change = change.float()
            gain = change @ ends.T  # (rows, end tokens)
            allowed = (change * head[other].float()).sum(dim=1, keepdim=True)
        elif reference is not None:
            gain = self._gain(logits, reference, self._tokens.expand(len(logits), -1))
            allowed = self._gain(logits, reference, other.unsqueeze(1))
        else:
            return
        excess = (gain - allowed).clamp_min(0.0) * holds
        logits.index_add_(1, self._tokens, excess.to(logits.dtype), alpha=-1)

    def _rows(self) -> tuple[Tensor | None, Tensor | None]:
        """The head's matrix, and its rows of the end tokens in float32."""
        if self._head is None:
            head = self._find()
            self._head = (head, None if head is None else head[self._tokens].float())
        return self._head

    def _likeliest_other(self, logits: Tensor) -> Tensor:
        """(rows,): the likeliest token of each row that is no end token."""
        held = logits.index_select(1, self._tokens)
        logits.index_fill_(1, self._tokens, -torch.inf)
        other = argmax(logits)
        logits.index_copy_(1, self._tokens, held)
        return other

    @staticmethod
    def _gain(logits: Tensor, reference: Tensor, tokens: Tensor) -> Tensor:
        """Mixed minus reference logits of tokens, (rows, tokens)."""
        return (logits.gather(1, tokens) - reference.gather(1, tokens)).float()
