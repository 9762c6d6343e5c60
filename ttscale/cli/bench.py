"""`ttscale bench`: what ESamp costs on this machine."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from ttscale import models
from ttscale.bench import STANDARD, Workload, measure, report, sweep, tiny
from ttscale.cli.codes import DONE
from ttscale.cli.engine import EngineFactory
from ttscale.cli.screen import Screen
from ttscale.engines import Engine, ServerEngine
from ttscale.errors import InvalidInput
from ttscale.esamp import cost

_FORM = re.compile(r"(\d{1,4})x(\d{1,4})(?::([a-z]+))?(?::([a-z]+))?", re.ASCII)
MAX_LEN = 1024
Figures = dict[str, Any]


def run(args: argparse.Namespace, screen: Screen, engine_factory: EngineFactory) -> int:
    """Measure what was asked for and show it.

    Raises:
        InvalidInput: An argument is refused; no engine was started.
        EngineError: ESamp did no work, or a half of a pair wrote less than the other.
    """
    if args.sweep and (args.base_url or args.workload):
        raise InvalidInput("--sweep chooses its own workloads and engines; drop the others")
    bench = Bench(args, screen, engine_factory)
    found = list(bench.curves() if args.sweep else bench.workloads())
    result = report.document(found, {"model": args.model, "dtype": args.dtype, "seed": args.seed})
    if args.out:
        write(Path(args.out), result, args.sweep)
    if args.json:
        screen.line(json.dumps(result))
    else:
        screen.show(report.table(found), *summary(result))
    return DONE


def parse_workload(text: str, tokens: int) -> Workload:
    """Read `PROMPTSxSAMPLES[:SCOPE[:DISTILLER]]`."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"a workload is PROMPTSxSAMPLES[:SCOPE[:DISTILLER]] such as 1x16, got {text!r}"
        )
    prompts, samples, scope, distiller = match.groups()
    return Workload(int(prompts), int(samples), scope or "prompt", distiller or "ridge", tokens)


class Bench:
    """One run of the command."""

    def __init__(
        self, args: argparse.Namespace, screen: Screen, engine_factory: EngineFactory
    ) -> None:
        self._args = args
        self._screen = screen
        self._factory = engine_factory
        self._rates: tuple[float, float] | None = None

    def workloads(self) -> Iterator[Figures]:
        """Figures of the workloads, on one engine."""
        args = self._args
        given = [parse_workload(text, args.tokens) for text in args.workload or ()]
        chosen = given or [
            Workload(w.prompts, w.samples, w.scope, w.distiller, args.tokens) for w in STANDARD
        ]
        with self._engine(args.model, max(workload.rows for workload in chosen)) as engine:
            folder = None if args.base_url else models.resolve(args.model)
            for workload in chosen:
                yield self._measured(engine, workload, folder)

    def curves(self) -> Iterator[Figures]:
        """Figures of every point of every curve."""
        every = sweep.points(self._args.tokens)
        widths = dict.fromkeys(point.hidden for point in every)
        for width in widths:
            mine = [point for point in every if point.hidden == width]
            with tempfile.TemporaryDirectory() as folder:
                yield from self._curve(mine, width, Path(folder))

    def _curve(
        self, points: list[sweep.Point], width: int | None, folder: Path
    ) -> Iterator[Figures]:
        settings: dict[str, Any] = {}
        model = self._args.model
        if width is not None:
            model, settings = tiny.random_llama(folder, width), {"load_format": "dummy"}
        rows = max(point.workload.rows for point in points)
        with self._engine(model, rows, **settings) as engine:
            for point in points:
                found = self._measured(engine, point.workload, models.resolve(model))
                yield {**found, "axis": point.axis, "x": point.x}

    def _engine(self, model: str, rows: int, **settings: Any) -> AbstractContextManager[Engine]:
        if self._args.base_url:
            return nullcontext(ServerEngine(self._args.base_url, model))
        return self._factory(
            model,
            dtype=self._args.dtype,
            max_num_seqs=rows,
            max_model_len=MAX_LEN,
            **settings,
        )

    def _measured(self, engine: Engine, workload: Workload, folder: str | None) -> Figures:
        self._screen.note(f"timing {workload.name}")
        found = measure(engine, workload, self._args.repeats, self._args.seed)
        floor = None if folder is None else self._floor(workload, folder)
        return report.workload_json(found, floor)

    def _floor(self, workload: Workload, folder: str) -> float | None:
        """The best ratio that arithmetic and memory traffic allow here, in float32."""
        if not (Path(folder) / "config.json").exists():
            return None
        if self._rates is None:
            from ttscale.esamp import speed

            self._rates = speed.flop_rate(), speed.byte_rate()
        groups = 1 if workload.scope == "shared" else workload.prompts
        step = partial(
            cost.step_cost,
            workload.distiller,
            tiny.hidden_size(folder),
            vocabulary=tiny.vocabulary_size(folder),
        )
        model = cost.model_cost(tiny.parameter_count(folder), workload.rows, cost.FLOAT)
        return cost.floor_ratio(model, step(groups, workload.rows // groups), *self._rates)


def summary(result: Figures) -> list[str]:
    """What the figures were measured on."""
    versions = " ".join(f"{name} {number}" for name, number in result["versions"].items())
    machine = result["machine"]
    return ["", f"{machine['processor']}, {machine['cores']} cores; {versions}"]


def write(folder: Path, result: Figures, swept: bool) -> None:
    """Write `bench.json`, and the plots of a sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if swept:
        curves: dict[str, list[Figures]] = {}
        for one in result["workloads"]:
            curves.setdefault(one["axis"], []).append(one)
        report.plot(curves, folder)
