"""Data parallelism: several engine cores behind one front end, each with its own distillers.

vLLM sends every sample of a request to whichever core has the least to do, which would tear groups
apart. So admission names the core, by the group; and reports are asked of all cores.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from ttscale.worker.request import read_admitted

Report = dict[str, Any]


def keep_together(vllm_config: Any, request: Any) -> None:
    """Send an admitted request to the engine core that holds its group's distiller.

    Nothing happens without data parallelism, when the caller has chosen a core, or with scope
    `shared`, where each core trains a distiller for all its requests.
    """
    parallel = vllm_config.parallel_config
    asked = read_admitted(request.sampling_params)
    if asked is None or asked.esamp is None or asked.esamp.scope == "shared":
        return
    if parallel.data_parallel_size > 1 and request.data_parallel_rank is None:
        local, everywhere = parallel.data_parallel_size_local, parallel.data_parallel_size
        cores = local if parallel.local_engines_only else everywhere
        request.data_parallel_rank = zlib.crc32(asked.group.encode()) % cores


async def fetch(engine: Any, names: Sequence[str]) -> Report:
    """What ESamp did, by `plugin.esamp_report`, in all engine cores of vLLM's `AsyncLLM` together.

    One tensor parallel rank of each core is asked for all: they count alike.
    """
    if engine.vllm_config.parallel_config.data_parallel_size == 1:
        ranks = await engine.collective_rpc("esamp_report", args=(list(names),))
        return dict(ranks[0])
    cores = await engine.engine_core.call_utility_all_async(
        "collective_rpc", "esamp_report", None, (list(names),), None
    )
    return merge([ranks[0] for ranks in cores])


def merge(reports: Sequence[Report]) -> Report:
    """One report of several cores': counts, bytes and seconds add up, errors are averaged."""
    whole: Any = None
    for report in reports:
        whole = _add(whole, _weighted(report, float))
    merged: Report = _weighted(whole, lambda steps: 1 / max(steps, 1))
    return merged


def _weighted(report: Report, weight: Any) -> Report:
    """The same report with each relative error multiplied by a function of its training steps."""
    found = dict(report)
    for name, value in report.items():
        if isinstance(value, dict):
            found[name] = _weighted(value, weight)
    if report.get("relative_error") is not None:
        found["relative_error"] = report["relative_error"] * weight(report["steps_trained"])
    return found


def _add(one: Any, other: Any) -> Any:
    """The sum of two plain values of the same shape; None is nothing."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict):
        return {key: _add(one.get(key), other.get(key)) for key in {**one, **other}}
    if isinstance(one, list):
        return [_add(a, b) for a, b in zip(one, other, strict=True)]
    return one + other
