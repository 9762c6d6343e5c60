"""`ttscale verify`: are ESamp's promises kept by the vLLM that is installed here?"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console

from ttscale import models
from ttscale.errors import MissingDependency
from ttscale.worker.engine import set_environment
from ttscale.worker.platforms import platform_settings

log = logging.getLogger(__name__)


def run(*, json: bool, console: Console, model: str = models.EMBEDDED) -> int:
    """Check every promise on `model`, show PASS or FAIL with figures, and return 0 or 1.

    Raises:
        MissingDependency: vLLM is not installed.
        ModelNotFound: `model` leads to no model.
    """
    folder = models.resolve(model)
    set_environment(offline=model == models.EMBEDDED)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the checks look into the worker
    found = []
    for finding in _findings(folder):
        found.append(finding)
        if not json:
            word = "[green]PASS[/]" if finding.passed else "[red]FAIL[/]"
            figures = jsonlib.dumps(_rounded(finding.figures))
            console.print(f"{word}  {finding.promise}")
            console.print(f"      {figures}", markup=False, soft_wrap=True)
    passed = all(finding.passed for finding in found)
    if json:
        report = {
            "passed": passed,
            "vllm": _vllm_version(),
            "wrapped": wrapped_methods(),
            "promises": [_rounded(dataclasses.asdict(finding)) for finding in found],
        }
        console.out(jsonlib.dumps(report), highlight=False)
    else:
        console.print(f"vLLM {_vllm_version()}; wrapped: {', '.join(wrapped_methods())}")
    return 0 if passed else 1


def wrapped_methods() -> list[str]:
    """All that the plugin replaces in vLLM."""
    from ttscale.worker.plugin import WRAPPED

    return [f"{cls}.{method}" for _, cls, method, _ in WRAPPED]


def _findings(folder: str) -> Iterator[Any]:
    """Start the engine and yield what each promise's check finds."""
    dtype = platform_settings("auto", None, max_model_len=0)["dtype"]
    try:
        from vllm import LLM
    except ImportError as error:
        raise MissingDependency("verify needs vLLM: install ttscale[cpu] or [gpu]") from error
    from ttscale.worker.promises import ENGINE, PROMISES, Bench

    yield from checked(PROMISES, Bench(LLM(folder, dtype=dtype, **ENGINE), folder, dtype))


def checked(checks: Sequence[Callable[[Any], Any]], bench: Any) -> Iterator[Any]:
    """What each check finds; a crash is a finding too.

    After a crash no other check is run: an engine whose step was broken off waits for ever.
    """
    from ttscale.worker.promises import Finding

    crashed = ""
    for check in checks:
        name = check.__name__
        if crashed:
            yield Finding(name, False, {"error": f"not run, since {crashed} crashed"})
            continue
        try:
            yield check(bench)
        except Exception as error:
            crashed = name
            log.exception("check %s failed to run", name)
            yield Finding(name, False, {"error": f"{type(error).__name__}: {error}"})


def _vllm_version() -> str:
    import vllm

    return str(vllm.__version__)


def _rounded(value: Any) -> Any:
    """The same figures with floats to four places."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
