"""Moving small host values to the device without waiting for what runs there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def on_device(values: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor of host values (numbers, lists of them, or a tensor on the host) on `device`.

    A copy from ordinary memory would wait for the device; one from pinned memory is only queued.
    """
    held = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        held = held.pin_memory()
    return held.to(device, non_blocking=True)
