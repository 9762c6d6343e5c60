"""The arguments of every command."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from ttscale import __version__
from ttscale.answers import KINDS
from ttscale.cli.bench_parser import add_bench
from ttscale.cli.convert_parser import add_convert
from ttscale.cli.eval_parser import add_eval, add_report
from ttscale.cli.strategy_parser import add_strategy_settings
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import DISTILLERS, FUSIONS, SCOPES
from ttscale.models import EMBEDDED
from ttscale.strategies import NAMES, SelfConsistency

EXAMPLES = """\
examples:
  ttscale solve "A pen costs 3 dollars. How many dollars do 4 pens cost?"
  ttscale solve --task word_problems --count 20 --n 16
  ttscale solve --task gsm_symbolic --count 10 --no-esamp --seed 1
  ttscale solve --file problems.jsonl --json > answers.jsonl
  ttscale eval --task chain_sum --count 40 --n 16 --out runs/sum
  ttscale bench --workload 1x16
  ttscale models pull
  ttscale serve --port 8000 --esamp-beta 0.25
  ttscale verify
"""

SOLVE_NOTES = """\
A file holds one JSON object a line: {"question": ..., "answer": ..., "id": ...}; only the question
is needed. With known answers the accuracy of the strategy is shown beside that of single samples.

exit codes: 0 done; 1 a question was lost, or the file has broken lines; 2 bad input; 3 the model or
engine could not be made; 130 interrupted (what was finished is printed)

examples:
  ttscale solve "What is 17 * 3?" --n 8
  ttscale solve --task word_problems --count 20 --strategy best-of-n
  ttscale solve --file problems.jsonl --model Qwen/Qwen2.5-1.5B-Instruct --json
"""


SERVE_NOTES = """\
All other flags are those of `vllm serve`, and are passed on to it; `--esamp-*` are defaults for
requests that do not say it themselves. Without --esamp-beta a request gets ESamp only if it asks.
A group belongs to the caller (API key) who names it, so callers never share a distiller.

routes: those of vLLM (/v1/chat/completions, /v1/completions, /v1/responses, /metrics, ...), and
/ttscale/v1/chat/completions, /ttscale/v1/models, /ttscale/v1/esamp

examples:
  ttscale serve
  ttscale serve Qwen/Qwen3-8B --port 8000 --api-key KEY --esamp-beta 0.25
  python -m ttscale.worker.serve --help=all     (the flags of vLLM)
"""


class Parser(argparse.ArgumentParser):
    """Raises InvalidInput instead of printing the usage and leaving."""

    def __init__(self, **settings: Any) -> None:  # those of ArgumentParser
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=layout, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise the error, so that all errors are shown in one way."""
        raise InvalidInput(f"{message}; see `{self.prog} --help`")


def build_parser() -> Parser:
    """The parser of `ttscale` and all its commands."""
    parser = Parser(
        prog="ttscale",
        description="Test-time scaling: draw many samples of a question, select one answer.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"ttscale {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_solve(commands)
    add_eval(commands)
    add_report(commands)
    add_convert(commands)
    add_bench(commands)
    _add_models(commands)
    _add_serve(commands)
    commands.add_parser("strategies", help="list the strategies and their settings")
    verify = commands.add_parser("verify", help="check that ESamp works in the installed vLLM")
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def help_pages() -> list[tuple[str, str]]:
    """Name and help text of `ttscale` and of every command, for the documentation."""
    parser = build_parser()
    pages = [("ttscale", parser.format_help())]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            pages += [(f"ttscale {name}", p.format_help()) for name, p in action.choices.items()]
    return pages


def _add_models(commands: argparse._SubParsersAction[Parser]) -> None:
    models = commands.add_parser("models", help="list the models that come with ttscale")
    models.add_argument(
        "action", nargs="?", choices=("list", "pull"), default="list", help="default: list"
    )


def _add_serve(commands: argparse._SubParsersAction[Parser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="start vLLM's OpenAI-compatible server with ESamp and the strategies in it",
        usage="ttscale serve [MODEL] [--esamp-...] [any flag of vllm serve]",
        description="Start vLLM's OpenAI-compatible server with ESamp and the strategies in it. "
        f"MODEL is a folder or hub name (default: {EMBEDDED}).",
        epilog=SERVE_NOTES,
    )
    group = serve.add_argument_group("defaults of ESamp for requests that say nothing")
    group.add_argument("--esamp-beta", type=float, metavar="BETA", help="strength, 0 to 4")
    group.add_argument("--esamp-scope", choices=SCOPES, help="who shares a distiller")
    group.add_argument("--esamp-group", metavar="NAME", help="group of a caller's requests")
    group.add_argument("--esamp-distiller", choices=DISTILLERS)
    group.add_argument("--esamp-fusion", choices=FUSIONS)
    group.add_argument("--esamp-seed", type=int, metavar="SEED")
    group.add_argument(
        "--esamp-gate",
        action=argparse.BooleanOptionalAction,
        help="whether the push waits until the distiller knows something",
    )
    group.add_argument(
        "--esamp-hold-eos",
        action=argparse.BooleanOptionalAction,
        help="whether the push may not make the end of a sample likelier",
    )
    group.add_argument(
        "--esamp-share-groups",
        action="store_true",
        help="let different callers share a distiller: groups of one name, and scope shared",
    )


def _add_solve(commands: argparse._SubParsersAction[Parser]) -> None:
    solve = commands.add_parser(
        "solve",
        help="answer a question, a file of questions, or a task",
        description="Answer a question, a file of questions, or a task.",
        epilog=SOLVE_NOTES,
    )
    _add_source(solve)
    _add_strategy(solve)
    add_strategy_settings(solve)
    _add_sampling(solve)
    _add_esamp(solve)


def _add_source(solve: Parser) -> None:
    group = solve.add_argument_group("what to solve (one of the three)")
    group.add_argument("question", nargs="?", help="a question")
    group.add_argument("--file", metavar="PATH", help="questions as JSON lines")
    group.add_argument(
        "--task", metavar="NAME", help="word_problems, or a task of reasoning-gym (ttscale[eval])"
    )
    group.add_argument(
        "--count", type=int, metavar="K", help="problems to take (task: 20, file: all)"
    )
    group.add_argument("--system", metavar="TEXT", help="system turn in front of each question")
    group.add_argument(
        "--instruction",
        metavar="TEXT",
        help="what follows each question; empty for nothing (default: one for mathematics)",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object per question")


def _add_strategy(solve: Parser) -> None:
    group = solve.add_argument_group("model and strategy")
    group.add_argument(
        "--model", help=f"name, folder or hub name (default: {EMBEDDED}, or the server's first)"
    )
    group.add_argument(
        "--base-url",
        action="append",
        metavar="URL",
        help="draw from a running server or router, such as http://localhost:8000/v1; may be "
        "repeated (key: TTSCALE_API_KEY)",
    )
    group.add_argument(
        "--strategy",
        choices=tuple(NAMES),
        default=SelfConsistency.name,
        help="how the answer is selected (default: %(default)s)",
    )
    group.add_argument("--n", type=int, default=16, help="samples per question (default: 16)")
    group.add_argument(
        "--kind",
        choices=KINDS,
        help="kind of answer to look for (default: number when all known answers are, else auto)",
    )
    group.add_argument(
        "--concurrency", type=int, default=8, help="questions in work at one time (default: 8)"
    )


def _add_sampling(solve: Parser) -> None:
    group = solve.add_argument_group("sampling")
    group.add_argument("--temperature", type=float, default=0.8, help="default: 0.8")
    group.add_argument("--top-p", type=float, default=1.0, help="default: 1")
    group.add_argument("--max-tokens", type=int, default=512, help="per sample (default: 512)")
    group.add_argument(
        "--fire-temperature", type=float, help="temperature of the first token alone (FIRE)"
    )
    group.add_argument("--seed", type=int, help="same seed, same task and samples")


def _add_esamp(solve: Parser) -> None:
    group = solve.add_argument_group("Exploratory Sampling")
    group.add_argument(
        "--esamp", action=argparse.BooleanOptionalAction, default=True, help="default: on"
    )
    group.add_argument("--beta", type=float, help="strength (default: 0.25)")
    group.add_argument("--distiller", choices=DISTILLERS, help="default: ridge")
    group.add_argument("--scope", choices=SCOPES, help="default: prompt")
