"""The figures of benchmarks/peers.py: one pass of a contender, the table and the page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

COUNTED = {  # name of the counter, and what its labels must hold
    "http_requests": ("http_requests_total", ""),
    "prompt_tokens": ("vllm:prompt_tokens_total", ""),
    "cached_tokens": ("vllm:prefix_cache_hits_total", ""),
    "completion_tokens": ("vllm:generation_tokens_total", ""),
    "cut_off": ("vllm:request_success_total", 'finished_reason="length"'),
    "finished": ("vllm:request_success_total", ""),
}


@dataclass(frozen=True)
class Run:
    """One contender's pass over all questions.

    Attributes:
        contender: Its name.
        repeat: Which repeat, from 0.
        results: What the runner wrote, one object a question.
        counted: What the server counted meanwhile, by the keys of COUNTED.
        right: Selected samples whose answer is the gold one.
        abstained: Questions without a selected sample, or with one that states no answer.
    """

    contender: str
    repeat: int
    results: Sequence[Mapping[str, Any]]
    counted: Mapping[str, int]
    right: int
    abstained: int
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", sum(one["seconds"] for one in self.results))


def ratios(runs: Sequence[Run], name: str, ours: str) -> list[float]:
    """A contender's seconds over those of `ours`, repeat by repeat."""
    base = {one.repeat: one.seconds for one in runs if one.contender == ours}
    return [one.seconds / base[one.repeat] for one in runs if one.contender == name]


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range; the value alone when all are equal."""
    middle, low, high = (
        f"{one:.{digits}f}" for one in (statistics.median(values), min(values), max(values))
    )
    return middle if low == high else f"{middle} ({low} to {high})"


def row(runs: Sequence[Run], name: str, ours: str, n: int) -> list[str]:
    """A contender's figures: times and counts of one pass, votes of all."""
    mine = [one for one in runs if one.contender == name]
    everything = [result for one in mine for result in one.results]
    returned = sum(result["returned"] or 0 for result in everything)
    counts = [spread([one.counted[key] for one in mine], 0) for key in list(COUNTED)[:5]]
    return [
        name,
        spread([one.seconds for one in mine], 1),
        spread(ratios(runs, name, ours), 2),
        *counts,
        f"{returned} of {n * len(everything)}",
        f"{sum(one.right for one in mine)} of {len(everything)}",
        str(sum(one.abstained for one in mine)),
        str(sum(bool(result["error"]) for result in everything)),
    ]


HEADS = (
    *("contender", "wall time, s", "ratio", "HTTP requests", "prompt tokens", "of them cached"),
    *("completion tokens", "cut off", "samples", "right", "no answer", "errors"),
)


def table(runs: Sequence[Run], names: Sequence[str], n: int) -> str:
    """The figures as a Markdown table; times are compared with those of the first name."""
    lines = [HEADS, ["---"] * len(HEADS), *(row(runs, name, names[0], n) for name in names)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def errors(runs: Sequence[Run]) -> list[str]:
    """Each error that a tool raised, as it came, with its number."""
    every = [(run.contender, one["error"]) for run in runs for one in run.results if one["error"]]
    return [
        f"{name}, {every.count((name, text))} times: {text}" for name, text in dict.fromkeys(every)
    ]


def page(runs: Sequence[Run], told: Mapping[str, Any], command: str) -> str:
    """The Markdown page of the results, without a reading of them."""
    machine, settings = told["machine"], told["settings"]
    names = [name for name in told["contenders"] if any(one.contender == name for one in runs)]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    peers = [
        f"- {name} {one['version']}, {one['installed']}."
        + (f" **Not compared:** {one['trouble']}" if one["trouble"] else "")
        for name, one in told["peers"].items()
    ]
    return "\n".join(
        [
            "# Self-consistency beside other toolkits",
            "",
            f"`{command}`, {told['date']}; {machine['processor']}, {machine['cores']} cores; "
            f"{versions}.",
            "",
            f"{settings['questions']} word problems x {settings['repeats']} repeats, N = "
            f"{settings['n']}, temperature {settings['temperature']}, at most "
            f"{settings['max_tokens']} tokens, seed {settings['seed']}, "
            f"model {settings['model']}.",
            "",
            table(runs, names, settings["n"]),
            "",
            "Times and counts: median (range) of one pass over the questions; the ratio is to "
            f"`{names[0]}` in the same repeat. Requests and tokens as the server counts "
            "them. `right` and `no answer` over all repeats, read by `ttscale.answers` from the "
            "sample each tool selected.",
            "",
            *(f"- {name}: {about}." for name, about in told["contenders"].items()),
            *peers,
            *(f"- Error of {line}" for line in errors(runs)),
            "",
        ]
    )


def write(runs: Sequence[Run], told: Mapping[str, Any], command: str, folder: Path) -> None:
    """Write peers.md and peers.json, anew."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "peers.md"
    text.write_text(page(runs, told, command), encoding="utf-8")
    every = {**told, "command": command, "runs": [asdict(run) for run in runs]}
    (folder / "peers.json").write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
