"""Self-consistency by this project and by two other toolkits, on one running server.

    python benchmarks/peers.py --cache ~/.cache/ttscale/peers
    python benchmarks/peers.py --questions 2 --repeats 1 --write no      # a short look

One `ttscale serve` of the embedded model answers them all. Each contender runs in a process of its
own (benchmarks/peers_runner.py), the peers in virtual environments under --cache, made with pip on
first use; a peer that cannot be installed is reported with pip's reason. All get the same system
turn, questions, N, temperature and token limit, one question after the other. In each repeat the
order is another (A B C, B C A, ...), so that a warm prefix cache favours nobody, and one uncounted
question goes in front. Requests and tokens are the server's own counters, read before and after.
The selected samples are graded by one reader, `ttscale.answers`, whoever selected them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from peers_report import COUNTED, Run, page, write

from ttscale.answers import extract_answer
from ttscale.bench.report import document
from ttscale.evaluation import Problem, Task, word_problems
from ttscale.serving.running import RunningServer
from ttscale.strategies.seeds import later_seed

RUNNER = Path(__file__).with_name("peers_runner.py")
RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
MODEL = "smollm2-135m-instruct"
SYSTEM = "Write one short calculation, and then the sentence: The answer is NUMBER."
EXAMPLES = """\
Question: Anna has 4 pens and buys 3 more. How many pens does Anna have now?
Solution: 4 + 3 = 7. The answer is 7.

Question: Ben had 9 coins, gave away 4 and then found 2. How many coins does Ben have?
Solution: 9 - 4 = 5 and 5 + 2 = 7. The answer is 7.

"""
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1"}
SETTLE_SECONDS = 0.5  # the server's counters follow its answers
QUIET = ('handler="/metrics"', 'handler="/health"')  # our own requests


@dataclass(frozen=True, slots=True)
class Peer:
    """A toolkit of others: how it gets into an environment of its own.

    Attributes:
        name: Its name and the module that is imported.
        version: The version that is run.
        installs: Arguments of `pip install`, one call each.
        note: What of it is installed.
    """

    name: str
    version: str
    installs: tuple[tuple[str, ...], ...]
    note: str


@dataclass(frozen=True, slots=True)
class Contender:
    """What is compared.

    Attributes:
        name: Its name in peers_runner.MADE.
        peer: The peer whose environment it needs; None for ours.
        about: What it does.
        once: Whether it is run in the first repeat only, since it takes so long.
    """

    name: str
    peer: str | None
    about: str
    once: bool = False


PEERS = (
    Peer("its_hub", "1.2.0", (("its_hub[lm]==1.2.0",),), "with its extra `lm`"),
    Peer(
        "optillm",
        "0.4.0",
        (
            ("--no-deps", "optillm==0.4.0"),
            (
                *("openai==3.57.0", "httpx==0.28.1", "aiohttp==3.14.5", "flask==3.1.3"),
                *("cerebras_cloud_sdk==1.91.0", "z3-solver==4.15.4.0", "networkx==3.6.1"),
                *("numpy==2.4.6", "sympy==1.14.0", "math-verify==0.9.0", "pyyaml==6.0.4"),
            ),
        ),
        "without its dependencies, then those that `import optillm` needs; the full list also has "
        "torch with CUDA, spaCy, Gradio and Selenium, which these two approaches do not use",
    ),
)
CONTENDERS = (
    Contender(
        "ttscale, plain",
        None,
        "`SelfConsistency`: one streamed request with n=N and log-probabilities; seeded",
    ),
    Contender("ttscale, ESamp", None, "the same over ESamp samples, beta 0.25"),
    Contender(
        "its_hub",
        "its_hub",
        "`SelfConsistency` with `create_regex_projection_function` for the prompts' last sentence: "
        "N requests at once; no seed",
    ),
    Contender(
        "optillm, majority_voting",
        "optillm",
        "the plugin, called as a library with k=N: one request with n=N; no seed",
    ),
    Contender(
        "optillm, self_consistency",
        "optillm",
        "`AdvancedSelfConsistency` with num_samples=N: N requests one after the other, always at "
        "temperature 1; leaves out cut-off samples, groups whole texts by likeness; no seed. "
        "For its time, in the first repeat only",
        once=True,
    ),
)


def install(peer: Peer, cache: Path) -> tuple[Path, str]:
    """The Python of the peer's environment, and why it is not usable; empty when it is."""
    folder = cache / f"{peer.name}-{peer.version}"
    python = folder / "bin" / "python"
    try:
        if not python.exists():
            _call(sys.executable, "-m", "venv", str(folder))
        if not _imports(python, peer.name):
            for wanted in peer.installs:
                _call(str(python), "-m", "pip", "install", "--quiet", *wanted)
            _call(str(python), "-c", f"import {peer.name}")
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        worst = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        return python, "; ".join(worst) or f"pip ended with {error.returncode}"
    return python, ""


def _imports(python: Path, name: str) -> bool:
    done = subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False)
    return done.returncode == 0


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return done.stdout


def packages(python: Path) -> list[str]:
    """What is installed in an environment, as `name==version`."""
    return _call(str(python), "-m", "pip", "list", "--format=freeze").split()


def order(names: Sequence[str], repeat: int) -> list[str]:
    """The names, begun `repeat` places later."""
    start = repeat % len(names)
    return [*names[start:], *names[:start]]


def counters(page: str) -> dict[str, int]:
    """The sums of COUNTED over all their labels, from the text of `/metrics`."""
    found = dict.fromkeys(COUNTED, 0)
    for line in page.splitlines():
        if any(quiet in line for quiet in QUIET):
            continue
        for key, (name, label) in COUNTED.items():
            if re.match(re.escape(name) + r"[{ ]", line) and label in line:
                found[key] += int(float(line.rsplit(" ", 1)[1]))
    return found


def grade(results: Iterable[Mapping[str, Any]], problems: Sequence[Problem]) -> tuple[int, int]:
    """How many selected texts state the gold answer, and how many state none."""
    task = Task("graded", tuple(problems))
    right = abstained = 0
    for one, problem in zip(results, problems, strict=True):
        found = extract_answer(one["text"], kind="number") if one["text"] else None
        abstained += found is None
        right += found is not None and task.right(found.value, problem)
    return right, abstained


def prompt(problem: Problem) -> str:
    """The user's turn."""
    return f"{EXAMPLES}Question: {problem.question}\nSolution:"


def plan(
    contender: Contender, url: str, model: str, args: argparse.Namespace, seed: int | None
) -> dict[str, Any]:
    """What a runner is told."""
    first, *others = word_problems(args.questions + 1, args.seed).problems
    return {
        "contender": contender.name,
        "url": url,
        "model": model,
        "system": SYSTEM,
        "warm_up": prompt(first),
        "questions": [prompt(problem) for problem in others],
        "n": args.n,
        "temperature": args.temperature,
        "max_tokens": args.max_tokens,
        "seed": seed,
    }


def run(told: Mapping[str, Any], python: Path, folder: Path, read: Callable[[], str]) -> Any:
    """Run one contender; `read` gives the server's counters. The results, and what was counted.

    Raises:
        RuntimeError: The runner ended without a result; the message ends with its last words.
    """
    plan_file, result, log = (folder / name for name in ("plan", "result", "log"))
    result.unlink(missing_ok=True)
    plan_file.write_text(json.dumps(told), encoding="utf-8")
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [python, RUNNER, plan_file, result],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
        )
        for line in process.stdout or ():  # what a tool prints comes before
            if line == "ready\n":
                break
        time.sleep(SETTLE_SECONDS)
        before = counters(read())
        process.communicate("go\n")
    time.sleep(SETTLE_SECONDS)
    after = counters(read())
    if not result.exists():
        raise RuntimeError(f"the runner gave no result: {log.read_text()[-1000:]}")
    counted = {key: after[key] - before[key] for key in COUNTED}
    return json.loads(result.read_text(encoding="utf-8")), counted


def all_runs(args: argparse.Namespace, pythons: Mapping[str, Path]) -> list[Run]:
    """Every contender whose Python is in `pythons`, in every repeat."""
    able = {one.name: one for one in CONTENDERS if one.name in pythons}
    problems = word_problems(args.questions + 1, args.seed).problems[1:]
    runs: list[Run] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningServer([MODEL, "--seed", str(args.seed)], environment=ENVIRONMENT) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        model = client.get("/v1/models").raise_for_status().json()["data"][0]["id"]
        begun, took = time.monotonic(), 0.0
        for repeat in range(args.repeats):
            if time.monotonic() - begun + took > args.at_most:
                break
            took = 0.0
            for name in order(list(able), repeat):
                if repeat and able[name].once:
                    continue
                start = time.monotonic()
                told = plan(able[name], server.url, model, args, later_seed(args.seed, repeat))
                results, counted = run(
                    told, pythons[name], Path(folder), lambda: client.get("/metrics").text
                )
                runs.append(Run(name, repeat, results, counted, *grade(results, problems)))
                took += 0 if able[name].once else time.monotonic() - start
                print(f"repeat {repeat}: {name}: {runs[-1].seconds:.1f} s, {counted}", flush=True)
    return runs


def environments(cache: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The Python of each contender that can run, and what became of each peer."""
    pythons = {one.name: Path(sys.executable) for one in CONTENDERS if one.peer is None}
    told: dict[str, Any] = {}
    for peer in PEERS:
        python, trouble = install(peer, cache)
        told[peer.name] = {"version": peer.version, "installed": peer.note, "trouble": trouble}
        if trouble:
            print(f"{peer.name} {peer.version} is not compared: {trouble}")
            continue
        told[peer.name]["packages"] = packages(python)
        print(f"{peer.name} {peer.version}: {' '.join(told[peer.name]['packages'])}")
        pythons |= {one.name: python for one in CONTENDERS if one.peer == peer.name}
    return pythons, told


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--questions", type=int, default=12)
    made.add_argument("--repeats", type=int, default=3)
    made.add_argument("--n", type=int, default=16)
    made.add_argument("--temperature", type=float, default=0.7)
    made.add_argument("--max-tokens", type=int, default=48)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--at-most", type=float, default=3600.0, help="seconds; no repeat that would end later"
    )
    made.add_argument("--cache", type=Path, default=Path("~/.cache/ttscale/peers"))
    made.add_argument("--write", type=Path, default=RESULTS, help="folder, or `no`")
    return made


def main() -> None:
    """Install the peers, run all, print and write the figures."""
    args = parser().parse_args()
    pythons, peers = environments(args.cache.expanduser())
    runs = all_runs(args, pythons)
    named = ("questions", "n", "temperature", "max_tokens", "seed")
    settings = {key: getattr(args, key) for key in named}
    settings["model"] = MODEL
    settings["repeats"] = 1 + max(one.repeat for one in runs)
    about = document((), {})
    told = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {key: about["machine"][key] for key in ("processor", "cores")},
        "versions": about["versions"],
        "settings": settings,
        "contenders": {one.name: one.about for one in CONTENDERS},
        "peers": peers,
    }
    command = f"python benchmarks/peers.py {' '.join(sys.argv[1:])}".strip()
    print(page(runs, told, command))
    if str(args.write) != "no":
        write(runs, told, command, args.write)


if __name__ == "__main__":
    main()
