"""What is lost when the samples of a prompt are split over two replicas.

    python benchmarks/split_groups.py                                  # an hour on two cores
    python benchmarks/split_groups.py --prompts 2 --samples 4 --max-tokens 16   # does it run

On one engine with the embedded model, every creative prompt gets its samples five ways: plainly, by
one ESamp distiller that sees all of them, by two that see one half each (as on two replicas that
share nothing), and both of these again with other seeds, which shows how far chance alone moves the
figures. Vendi score and similarity are those of the evaluation, on MiniLM embeddings; differences
are paired by prompt, with bootstrap intervals over prompts. Prints Markdown; with --out it also
keeps the texts as JSON lines, and takes from there what is there already.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ttscale import LocalEngine
from ttscale.engines import Engine
from ttscale.errors import EngineError
from ttscale.esamp import ESamp
from ttscale.evaluation.book import draw_seed
from ttscale.evaluation.catalogue import TaskSpec
from ttscale.evaluation.metrics.diversity import (
    Floats,
    distinct_n,
    mean_pairwise,
    similarity,
    vendi_score,
)
from ttscale.evaluation.metrics.embeddings import MiniLM
from ttscale.evaluation.stats import Interval, mean_interval, paired, resample
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem
from ttscale.sampling import Sampler

PLAIN, SHARED, SPLIT = "plain", "one distiller", "two half-blind distillers"
AGAIN = ", other seeds"
COMPARED = (
    (SHARED, PLAIN),
    (SPLIT, PLAIN),
    (SPLIT, SHARED),
    (SPLIT + AGAIN, SHARED + AGAIN),
    (SHARED + AGAIN, SHARED),
)
Texts: TypeAlias = dict[tuple[str, str], list[str]]
"""Texts by prompt and by the way they were drawn."""
Keep: TypeAlias = Callable[[str, str, list[str]], None]


@dataclass(frozen=True)
class Way:
    """How the samples of a prompt are drawn: in so many requests, which share no distiller."""

    name: str
    sampler: Sampler
    requests: int
    round: int = 0


def ways(beta: float, temperature: float, max_tokens: int) -> tuple[Way, ...]:
    """The ways that are compared."""
    plain = Sampler(temperature=temperature, max_tokens=max_tokens)
    esamp = replace(plain, esamp=ESamp(beta=beta))
    return (
        Way(PLAIN, plain, 1),
        Way(SHARED, esamp, 1),
        Way(SPLIT, esamp, 2),
        Way(SHARED + AGAIN, esamp, 1, round=1),
        Way(SPLIT + AGAIN, esamp, 2, round=1),
    )


async def draw(engine: Engine, suite: Suite, problem: Problem, way: Way, n: int) -> list[str]:
    """The texts of one prompt, drawn one way: one request after the other, n in all.

    The first request has the same seed in all ways of one round, so with two requests the first
    half begins with the draws that one request would have given it.

    Raises:
        EngineError: A sample is missing.
    """
    texts: list[str] = []
    for request in range(way.requests):
        seed = draw_seed(0, suite.name, problem.id, 2 * way.round + request)
        sampler = way.sampler.with_seed(seed)
        found = await engine.adraw(suite.prompt(problem), n // way.requests, sampler)
        if found.failures:
            raise EngineError(f"{way.name}: {found.failures[0].reason}")
        if sampler.esamp is not None and (found.esamp is None or not found.esamp.rows_mixed):
            raise EngineError(f"{way.name}: ESamp did no work")
        texts += [candidate.text for candidate in found.candidates]
    return texts


async def draw_all(
    engine: Engine, suite: Suite, chosen: tuple[Way, ...], n: int, texts: Texts, keep: Keep
) -> None:
    """Complete `texts`; each set is kept as soon as it is there."""
    for problem in suite.task.problems:
        for way in chosen:
            key = problem.id, way.name
            if key not in texts:
                texts[key] = await draw(engine, suite, problem, way, n)
                keep(*key, texts[key])
        print(f"  {problem.id} is drawn", flush=True)


def keeper(out: Path | None, settings: str) -> Keep:
    """What writes a set of texts to the file, if there is one."""

    def keep(problem: str, way: str, texts: list[str]) -> None:
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps([settings, problem, way, texts]) + "\n")

    return keep


def read(out: Path | None, settings: str) -> Texts:
    """The texts that an earlier run with these settings has kept."""
    if out is None or not out.exists():
        return {}
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return {(problem, way): texts for drawn, problem, way, texts in rows if drawn == settings}


Figure: TypeAlias = Callable[[list[str], Floats], float]
FIGURES: Mapping[str, Figure] = {
    "Vendi score": lambda _, alike: vendi_score(alike),
    "similarity": lambda _, alike: mean_pairwise(alike),
    "distinct-2": lambda texts, _: distinct_n(texts, 2),
}


def measure(texts: Texts, problems: list[str], way: str, embed: MiniLM) -> dict[str, Floats]:
    """Each figure of one way, (problems,)."""
    sets = [texts[problem, way] for problem in problems]
    alike = [similarity(embed(some)) for some in sets]
    return {
        name: np.array([figure(some, near) for some, near in zip(sets, alike, strict=True)])
        for name, figure in FIGURES.items()
    }


def table(measured: Mapping[str, Mapping[str, Floats]], drawn: NDArray[np.int64]) -> Iterator[str]:
    """The report: every figure of every way, then the differences."""
    yield "| samples by | " + " | ".join(FIGURES) + " |"
    yield "|---|" + "---|" * len(FIGURES)
    for way, figures in measured.items():
        cells = [shown(mean_interval(figures[name], drawn)) for name in FIGURES]
        yield f"| {way} | " + " | ".join(cells) + " |"
    yield ""
    yield "| difference, paired by prompt | " + " | ".join(FIGURES) + " |"
    yield "|---|" + "---|" * len(FIGURES)
    for one, other in COMPARED:
        cells = [
            shown(paired(measured[one][name], measured[other][name], drawn, 0).interval, sign=True)
            for name in FIGURES
        ]
        yield f"| {one} minus {other} | " + " | ".join(cells) + " |"


def shown(found: Interval, *, sign: bool = False) -> str:
    """A figure and its interval."""
    form = "+.3f" if sign else ".3f"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=24, help="creative prompts (default: 24)")
    parser.add_argument("--samples", type=int, default=16, help="of each, even (default: 16)")
    parser.add_argument("--max-tokens", type=int, default=160, help="default: 160")
    parser.add_argument("--beta", type=float, default=0.5, help="default: 0.5")
    parser.add_argument("--temperature", type=float, default=0.8, help="default: 0.8")
    parser.add_argument("--out", type=Path, help="JSON lines that keep the texts")
    args = parser.parse_args()
    if args.samples % 2:
        parser.error(f"--samples must be even, got {args.samples}")
    return args


def main() -> None:
    """Draw, measure, print."""
    args = arguments()
    suite = TaskSpec("creative", args.prompts).suite()
    chosen = ways(args.beta, args.temperature, args.max_tokens)
    settings = (
        f"{args.samples} samples each, {args.max_tokens} tokens at most, "
        f"beta {args.beta:g}, temperature {args.temperature:g}"
    )
    texts = read(args.out, settings)
    problems = [problem.id for problem in suite.task.problems]
    if any((problem, way.name) not in texts for problem in problems for way in chosen):
        with LocalEngine(max_model_len=1024, max_num_seqs=args.samples) as engine:
            keep = keeper(args.out, settings)
            asyncio.run(draw_all(engine, suite, chosen, args.samples, texts, keep))
    embed = MiniLM()
    measured = {way.name: measure(texts, problems, way.name, embed) for way in chosen}
    print(f"\n{len(problems)} prompts, {settings}; mean over prompts, 95 % intervals\n")
    print("\n".join(table(measured, resample(len(problems), 0))))


if __name__ == "__main__":
    main()
