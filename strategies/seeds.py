"""Seeds of the draws of one run, all made of one."""

from __future__ import annotations

import hashlib

MAX_SEED = 2**31 - 1


def later_seed(seed: int | None, place: int) -> int | None:
    """The seed of the draw in `place`: the seed itself in place 0, unrelated ones after it.

    A hash, since engines count on from a seed for the samples of one draw, and neighbouring seeds
    would repeat them. None, which draws afresh, stays None.
    """
    if seed is None or place == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/{place}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % (MAX_SEED + 1)
