"""How a prediction changes the distribution (Eq. 6 to 8, Alg. 1).

The LM head W is linear, so `(1 + b) W hL - b W f = W (hL + b (hL - f))`: one projection of a mixed
state serves in place of two (latent-space mixing, App. E.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttscale.esamp.settings import FUSIONS

FUSION_CODES = {name: code for code, name in enumerate(FUSIONS)}


def directions(hL: Tensor, predicted: Tensor, codes: Tensor, noise: Tensor | None) -> Tensor:
    """The direction d of each row, so that the mixed state is `hL + beta * d`.

    Args:
        hL: (rows, hidden), float32.
        predicted: f(h1), same shape.
        codes: (rows,) of FUSION_CODES. `mix` pushes along the error `hL - f` (Eq. 7), `subtract`
            along `-f` (plain subtraction of the distilled logits), `noise` along a random
            direction as long as the error.
        noise: (rows, hidden) of standard normal draws when a row asks for noise, else None.
    """
    error = hL - predicted
    chosen = torch.where((codes == FUSION_CODES["subtract"]).unsqueeze(1), -predicted, error)
    if noise is None:
        return chosen
    length = error.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return torch.where((codes == FUSION_CODES["noise"]).unsqueeze(1), noise * length, chosen)


def keep_mask(
    logits: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, most: int | None = None
) -> Tensor:
    """Which tokens survive min-p, then top-k, then top-p, in vLLM's order.

    Args:
        logits: (rows, vocabulary) of the reference, divided by the temperature.
        top_k: (rows,) whole numbers; 0 keeps all.
        top_p: (rows,) in (0, 1]; 1 keeps all.
        min_p: (rows,) in [0, 1]; 0 keeps all.
        most: The largest top_k where no row has a top_p below 1, which spares sorting the
            vocabulary; None where one has.

    Returns:
        Booleans, (rows, vocabulary); every row keeps at least one token.
    """
    size = logits.shape[1]
    # min-p: drop what is less likely than min_p times the likeliest token
    floor = logits.amax(dim=1, keepdim=True) + min_p.log().unsqueeze(1)
    logits = logits.masked_fill(logits < floor, -torch.inf)
    if most is not None:
        return _among_most(logits, top_k, min(most, size))
    ordered, order = logits.sort(dim=1, descending=True)
    # top-k: keep what is no smaller than the k-th largest
    k = torch.where(top_k > 0, top_k, size).clamp(max=size)
    kth = ordered.gather(1, (k - 1).unsqueeze(1).long())
    ordered = ordered.masked_fill(ordered < kth, -torch.inf)
    # top-p: keep tokens until the mass before one reaches p
    mass = ordered.softmax(dim=1)
    before = mass.cumsum(dim=1) - mass
    kept = (before < top_p.unsqueeze(1)) & (ordered > -torch.inf)
    kept[:, 0] = True
    return torch.zeros_like(kept).scatter_(1, order, kept)


def _among_most(logits: Tensor, top_k: Tensor, most: int) -> Tensor:
    """Which tokens survive top-k alone, where no k is above `most`; dropped ones are -inf."""
    kept = logits > -torch.inf
    if not most:
        return kept
    largest = logits.topk(most, dim=1).values
    kth = largest.gather(1, (top_k - 1).clamp(0, most - 1).unsqueeze(1).long())
    return kept & ((logits >= kth) | (top_k == 0).unsqueeze(1))
