"""The closed-form distiller: ridge regression, exact after every step.

Features are a fixed random projection of the RMS-normed h1 and a constant. For the rows seen so
far, stacked in Phi and Y, ridge regression solves `W = (Lam + Phi^T Phi)^-1 Phi^T Y`, where Lam
is diagonal: 200 for the projections and 0.1 for the constant, whose weight is the mean that every
group needs at once. docs/distiller.md shows how these were found. With
`P = (Lam + Phi^T Phi)^-1` held instead of the rows, m new rows X change it by the block form of
the Sherman-Morrison-Woodbury identity (recursive least squares; Hager 1989, "Updating the inverse
of a matrix"):

    K  = (I + X P X^T)^-1 X P      (m, features)
    W <- W + K^T (Y - X W)
    P <- P - K^T (X P)

A padding row is zero in X, hence zero in K, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ttscale.esamp.distiller import Prediction, SlotTensors

FEATURES = 128
RIDGE = 200.0  # in rows: the features of one row have a mean square of 1
BIAS_RIDGE = 0.1
PROJECTION_SEED = 20240  # one projection for all groups; it must not change while one is alive


class RidgeDistiller:
    """Recursive least squares from `features` random projections of h1, plus a bias, to hL.

    One slot holds `4 ((features + 1)^2 + (features + 1) hidden)` bytes.
    """

    def __init__(
        self,
        hidden: int,
        device: torch.device,
        features: int = FEATURES,
        ridge: float = RIDGE,
    ) -> None:
        width = features + 1
        prior = torch.full((width,), 1 / ridge)
        prior[-1] = 1 / BIAS_RIDGE
        self._prior = prior.diag().to(device)
        self.slots = SlotTensors({"P": (width, width), "W": (width, hidden)}, device)
        draw = torch.Generator().manual_seed(PROJECTION_SEED)
        # of unit vectors: RMS norm would multiply, and the projection divide, by sqrt(hidden)
        projection = torch.randn(hidden, features, generator=draw)
        self._projection = torch.nn.functional.pad(projection, (0, 1)).to(device)
        self._constant = torch.zeros(width, device=device)
        self._constant[-1] = 1.0

    def reset(self, slot: int, seed: int) -> None:  # noqa: ARG002 - nothing is drawn per slot
        """Forget everything: `P = Lam^-1`, `W = 0`."""
        self.slots["P"][slot] = self._prior
        self.slots["W"][slot] = 0

    def features(self, h1: Tensor) -> Tensor:
        """(..., hidden) -> (..., features + 1): RMS norm, projection, and the constant 1."""
        unit = torch.nn.functional.normalize(h1, dim=-1, eps=1e-6)
        phi = torch.addmm(self._constant, unit.flatten(0, -2), self._projection)
        return phi.view(*h1.shape[:-1], -1)

    def predict(self, h1: Tensor) -> Prediction:
        """Estimate hL (groups, rows, hidden) from h1 (groups, rows, hidden); trains nothing."""
        phi = self.features(h1)  # X: [G, m, F]
        return Prediction(torch.bmm(phi, self.slots["W"][: h1.shape[0]]), (phi,))

    def update(
        self,
        made: Prediction,
        hL: Tensor,
        mask: Tensor,
        trains: Sequence[int] | None = None,  # noqa: ARG002 - a group without rows stays by itself
    ) -> None:
        """Take the masked rows into the regression; see the module docstring."""
        groups = hL.shape[0]
        X = made.saved[0] * mask.unsqueeze(-1)
        P, W = self.slots["P"][:groups], self.slots["W"][:groups]
        XP = torch.bmm(X, P)  # [G, m, F]
        inner = torch.bmm(XP, X.mT)  # [G, m, m]
        inner.diagonal(dim1=-2, dim2=-1).add_(1.0)
        inverse, _ = torch.linalg.inv_ex(inner)  # no host sync, unlike inv; m is small
        K = torch.bmm(inverse, XP)  # [G, m, F]
        W.baddbmm_(K.mT, hL - made.hL)
        P.baddbmm_(K.mT, XP, alpha=-1.0)
