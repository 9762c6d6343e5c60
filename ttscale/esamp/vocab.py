"""The vocabulary-space distiller, an ablation (Table 11): swiglu's network, trained through W.

In place of the distance of states it learns from the distance of next-token distributions,

    KL(softmax(W hL) || softmax(W f)),   whose slope is   W^T (softmax(W f) - softmax(W hL))

with the LM head W: three products with W for every row that is learned from, where the latent
distillers need none. Predicting and mixing are swiglu's. Its relative error is the divergence over
that from the uniform distribution, which a state of zeros predicts, as `||hL||` is over zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ttscale.esamp.swiglu import Loss

ROWS_AT_ONCE = 64  # bounds the memory of the logits
_TINY = 1e-6  # nats; a reference that is uniform has no error to speak of


def divergence(head: Tensor) -> Loss:
    """The divergence through `head` (vocabulary, hidden); its products are in the head's type."""

    def loss(predicted: Tensor, hL: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.stack([predicted.flatten(0, 1), hL.flatten(0, 1)])
        starts = range(0, both.shape[1], ROWS_AT_ONCE)
        parts = [_of_rows(head, *both[:, k : k + ROWS_AT_ONCE]) for k in starts]
        slopes, errors = (torch.cat(column) for column in zip(*parts, strict=True))
        return slopes.view_as(predicted), errors.view(predicted.shape[:2])

    return loss


def _of_rows(head: Tensor, predicted: Tensor, hL: Tensor) -> tuple[Tensor, Tensor]:
    """Slope (k, hidden) and relative error (k,) of rows (k, hidden)."""
    logits = torch.cat([predicted, hL]).to(head.dtype) @ head.T
    log_q, log_p = logits.float().log_softmax(dim=-1).chunk(2)
    p = log_p.exp()
    most = math.log(len(head)) + (p * log_p).sum(dim=-1)
    error = (p * (log_p - log_q)).sum(dim=-1) / most.clamp_min(_TINY)
    return ((log_q.exp() - p).to(head.dtype) @ head).float(), error
