"""The arguments of `ttscale eval` and `ttscale report`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttscale.cli.parser import Parser

EVAL_NOTES = """\
The folder then holds samples.jsonl (the pool: every sample, appended as it finishes), summary.json,
report.md, report.html and plots/. Run the same command again after any interruption: what is stored
is not drawn again. More problems, samplers and samples may be asked for later.

tasks: word_problems, creative, humaneval, livecodebench, aime24, aime25, gpqa_diamond, math500,
books, a file of JSON lines, or any task of reasoning-gym; settings after a colon, as in
chain_sum:max_terms=3 or humaneval:form=completion

samplers: vanilla, matched, top-p, min-p, fire, esamp, fire+esamp, noise, subtract, vocab, tree,
contrastive (with contrastive:amateur=FOLDER_OR_NAME); settings after a colon, as in
esamp:beta=0.5,distiller=swiglu; the first one is what the others are compared with

exit codes: 0 done; 1 samples could not be drawn; 2 bad input; 3 the model or engine could not be
made; 130 interrupted (what was finished is stored)

examples:
  ttscale eval --task chain_sum --count 40 --n 16 --sampler vanilla --sampler esamp --out runs/sum
  ttscale eval --config examples/eval_small.toml --out runs/small
  ttscale eval --base-url http://router:30000/v1 --task creative --out runs/stories
  ttscale eval --task problems.jsonl --temperatures 0.8 --sampler vanilla --out runs/mine
  ttscale eval --task chain_sum --ray 2 --out runs/sum
"""

PRICED = (
    ("prompt", "a million tokens read"),
    ("completion", "a million tokens written"),
    ("hour", "an hour in which the engine draws"),
)

REPORT_NOTES = """\
examples:
  ttscale report runs/sum
  ttscale report runs/sum --embeddings none
"""


def add_eval(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `ttscale eval`."""
    parser = commands.add_parser(
        "eval",
        help="compare samplers on a task, and write a report",
        description="Compare samplers on tasks: draw a pool of samples, then report what it shows.",
        epilog=EVAL_NOTES,
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of pool and report")
    _add_what(parser)
    _add_how(parser)
    _add_report_options(parser)
    parser.add_argument("--no-report", action="store_true", help="draw only")


def _add_what(parser: Parser) -> None:
    group = parser.add_argument_group("what to compare (flags go over the file)")
    group.add_argument("--config", metavar="FILE", help="TOML or YAML file")
    group.add_argument("--task", action="append", metavar="NAME", help="a task; may be repeated")
    group.add_argument("--count", type=int, metavar="K", help="problems (file: all; others: 40)")
    group.add_argument(
        "--sampler",
        action="append",
        metavar="NAME",
        help="a sampler; may be repeated (default: vanilla and esamp)",
    )
    group.add_argument(
        "--temperatures",
        metavar="T,T",
        help="the sweep of every sampler (default: 0.4,0.6,0.8,1,1.2)",
    )
    group.add_argument("--n", type=int, help="samples of each problem (default: 16)")
    group.add_argument(
        "--judge",
        action="append",
        metavar="STRATEGY",
        help="a strategy with a judge, the model itself, to run over the samples of each problem: "
        "best-of-n, tournament, verifier-rerank or weighted-vote; may be repeated",
    )
    group.add_argument("--instruction", metavar="TEXT", help="what follows each question")
    group.add_argument("--system", metavar="TEXT", help="system turn in front of each question")
    group.add_argument("--opening", metavar="TEXT", help="how each answer begins")
    group.add_argument(
        "--stop", action="append", metavar="TEXT", help="where a sample ends; may be repeated"
    )


def _add_how(parser: Parser) -> None:
    group = parser.add_argument_group("how")
    group.add_argument("--model", help="name, folder or hub name (default: the embedded model)")
    group.add_argument(
        "--base-url",
        action="append",
        metavar="URL",
        help="draw from a running server or router, such as http://localhost:8000/v1; may be "
        "repeated (key: TTSCALE_API_KEY; model: its first)",
    )
    group.add_argument("--seed", type=int, help="seed of tasks and samples (default: 0)")
    group.add_argument("--max-tokens", type=int, help="per sample (default: 256)")
    group.add_argument("--concurrency", type=int, help="problems at one time (default: 8)")
    group.add_argument(
        "--ray",
        nargs="?",
        type=int,
        const=2,
        metavar="WORKERS",
        help="draw on that many workers of Ray Data (default: 2), each with --concurrency problems",
    )
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="a running Ray cluster, or auto (default: start Ray on this machine)",
    )


def add_report(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `ttscale report`."""
    parser = commands.add_parser(
        "report",
        help="write an evaluation's report anew, without an engine",
        description="Make summary.json, report.md, report.html and plots/ from a stored pool.",
        epilog=REPORT_NOTES,
    )
    parser.add_argument("folder", metavar="DIR", help="folder that `ttscale eval` wrote")
    _add_report_options(parser)


def _add_report_options(parser: Parser) -> None:
    group = parser.add_argument_group("the report")
    group.add_argument(
        "--embeddings",
        choices=("minilm", "none"),
        default="minilm",
        help="what Vendi score and similarity are measured with (default: minilm)",
    )
    group.add_argument(
        "--perplexity-model",
        metavar="NAME",
        help="model under which the texts' perplexity is measured, as --model takes it, or none "
        "(default: the one that the folder was measured with, else none)",
    )
    group.add_argument(
        "--resamples", type=int, default=2000, help="of the bootstrap (default: 2000)"
    )
    prices = parser.add_argument_group("prices, in a currency of yours (default: none is counted)")
    for name, what in PRICED:
        prices.add_argument(f"--price-{name}", type=float, metavar="PRICE", help=what)
