"""The paper's distiller, to the letter: two residual gated-SwiGLU blocks trained with Adam.

    x <- x + W_down( silu(W_gate x) * (W_up x) )        inner width 384 (Eq. 3, App. E.2)

One Adam step per decode step on the batch mean of `||hL - f(h1)||^2` (Eq. 10): learning rate 4e-4,
eps 1e-4, gradient-norm clip 0.5. Each group has parameters, moments and a step count of its own,
held in stacked tensors, so that all groups of a batch are trained by the same few products. The
gradient is written out, since vLLM runs its workers in inference mode, where autograd is off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

from ttscale.esamp.distiller import Prediction, SlotTensors, with_rows
from ttscale.esamp.transfer import on_device

WIDTH = 384
BLOCKS = 2
LEARNING_RATE = 4e-4
BETAS = (0.9, 0.999)
EPS = 1e-4
CLIP = 0.5

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""Of f and hL, (groups, rows, hidden) in float32: d loss / d f of each row in the same shape, and
its relative error (groups, rows), or None where that is the distance of the states."""


def squared_error(predicted: Tensor, hL: Tensor) -> tuple[Tensor, None]:
    """`||hL - f||^2` (Eq. 10)."""
    return 2.0 * (predicted - hL), None


class SwiGLUDistiller:
    """`BLOCKS` residual SwiGLU blocks per group, batched over groups.

    One slot holds `4 (24 hidden width + 1)` bytes: parameters, two moments and a gradient.

    Args:
        hidden: Width of the states.
        device: Where they are.
        width: Inner width of a block.
        loss: What is trained on, as the mean over rows.
    """

    def __init__(
        self,
        hidden: int,
        device: torch.device,
        width: int = WIDTH,
        loss: Loss = squared_error,
    ) -> None:
        self._hidden, self._width, self._loss = hidden, width, loss
        # in: gate and up projections of each block, stacked; down: back to the residual stream
        shapes = {"in": (BLOCKS, hidden, 2 * width), "down": (BLOCKS, width, hidden)}
        self._sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
        self._shapes = shapes
        total = sum(self._sizes.values())
        flat: dict[str, tuple[int, ...]] = {
            "theta": (total,),
            "m": (total,),
            "v": (total,),
            "step": (1,),
            "gradient": (total,),
        }
        self.slots = SlotTensors(flat, device)

    def reset(self, slot: int, seed: int) -> None:
        """Fresh parameters: gate and up as `torch.nn.Linear` draws them, down zero.

        With `down` zero f starts as the identity on the residual stream.
        """
        draw = torch.Generator().manual_seed(seed)
        theta = torch.zeros(sum(self._sizes.values()))
        bound = self._hidden**-0.5
        theta[: self._sizes["in"]].uniform_(-bound, bound, generator=draw)
        held = self.slots["theta"]
        held[slot] = on_device(theta, held.device, held.dtype)
        for name in ("m", "v", "step"):
            self.slots[name][slot] = 0

    def split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """(G, total) -> in (G, blocks, hidden, 2 width), down (G, blocks, width, hidden)."""
        cut = self._sizes["in"]
        return (
            flat[:, :cut].view(-1, *self._shapes["in"]),
            flat[:, cut:].view(-1, *self._shapes["down"]),
        )

    def predict(self, h1: Tensor) -> Prediction:
        """Estimate hL (groups, rows, hidden) from h1 (groups, rows, hidden); trains nothing."""
        w_in, w_down = self.split(self.slots["theta"][: h1.shape[0]])
        x, saved = h1, []
        for block in range(BLOCKS):
            gate, up = torch.bmm(x, w_in[:, block]).chunk(2, dim=-1)  # [G, m, width] each
            saved += [x, gate, up]
            x = torch.baddbmm(x, torch.nn.functional.silu(gate) * up, w_down[:, block])
        return Prediction(x, tuple(saved))

    def update(
        self, made: Prediction, hL: Tensor, mask: Tensor, trains: Sequence[int] | None = None
    ) -> Tensor | None:
        """One clipped Adam step of every group that has a real row."""
        groups = hL.shape[0]
        slope, error = self._loss(made.hL, hL)
        gradient = self._gradient(self.slots["theta"][:groups], made, slope, mask)
        self._adam(gradient, with_rows(mask) if trains is None else trains)
        return error

    def _gradient(self, theta: Tensor, made: Prediction, slope: Tensor, mask: Tensor) -> Tensor:
        """d loss / d theta, (G, total), of d loss / d f, clipped; only rows of the mask weigh."""
        gradient = self.slots["gradient"][: len(theta)]  # fresh memory costs more
        products = self._products(theta, gradient, made, slope, mask)
        square = sum((_square(left, right) for left, right, _ in products), mask.new_zeros(()))
        clip = (CLIP * square.clamp_min(1e-24).rsqrt()).clamp_max(1.0).view(-1, 1, 1)
        for left, right, out in products:
            torch.bmm(left.mT, right * clip, out=out)
        return gradient

    def _products(
        self, theta: Tensor, gradient: Tensor, made: Prediction, slope: Tensor, mask: Tensor
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The gradient as products `left^T right` over rows, each with its place in `gradient`."""
        w_in, w_down = self.split(theta)
        g_in, g_down = self.split(gradient)
        rows = mask.sum(dim=1).clamp_min(1.0)
        back = slope * (mask / rows.unsqueeze(1)).unsqueeze(-1)  # d loss / d x
        products = []
        for block in reversed(range(BLOCKS)):
            x, gate, up = made.saved[3 * block : 3 * block + 3]
            sigmoid = torch.sigmoid(gate)
            silu = gate * sigmoid
            inner = torch.bmm(back, w_down[:, block].mT)  # [G, m, width]
            bend = sigmoid * (1 + gate * (1 - sigmoid))
            both = torch.cat([inner * up * bend, inner * silu], dim=-1)
            products += [(silu * up, back, g_down[:, block]), (x, both, g_in[:, block])]
            if block:  # nobody asks for the gradient of h1
                back = torch.baddbmm(back, both, w_in[:, block].mT)
        return products

    def _adam(self, gradient: Tensor, trains: Sequence[int]) -> None:
        """Adam (Kingma & Ba 2015) by torch's fused kernel: all groups of `trains` in one call.

        The other groups keep everything.
        """
        slots = {name: self.slots[name].unbind() for name in ("theta", "m", "v", "step")}
        theta, m, v, step = ([slots[name][i] for i in trains] for name in slots)
        rows = gradient.unbind()
        adam(
            theta,
            [rows[i] for i in trains],
            m,
            v,
            [],
            [one.view(()) for one in step],
            fused=True,
            foreach=False,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=LEARNING_RATE,
            weight_decay=0.0,
            eps=EPS,
            maximize=False,
        )


def _square(left: Tensor, right: Tensor) -> Tensor:
    """`||left^T right||^2` of each group, (G,), from the rows' inner products: no product is made.

    The gradient is some million numbers a group; the rows are a few.
    """
    return (torch.bmm(left, left.mT) * torch.bmm(right, right.mT)).sum(dim=(1, 2))
