"""Generated texts through extraction and equivalence: no crash, none over 2 s, nothing executed.

    python benchmarks/fuzz_answers.py --texts 10000 --write docs/results/fuzz_answers.md

Half of the texts are made by Hypothesis of fragments of LaTeX, prose and noise; half are built to
be hard: nested to any depth, up to 1 MB long, look-alike letters, braces that do not balance, code,
boxes in boxes, towers of powers. Each is read with every kind of answer, and what comes out is
compared with itself and with the answer before it. The working folder must stay empty.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ttscale.answers import KINDS, Answer, equivalent, extract_answer
from ttscale.answers.judge import shared

LIMIT = 2.0  # seconds, for one text read with one kind, and for one comparison
MEGABYTE = 1_000_000
WORDS = r"""
\boxed{ \boxed \fbox{ } { \frac \frac{1}{2} \frac12 \sqrt ^ _ \text{ cm x=3 1,234 50\%
\left( \right] [1,2) \cup \infty \begin{pmatrix} & \\ \end{pmatrix} **73** (C) <think>
</think> <answer> </answer> not $ \( \) 7 - . 9^{9^{9}} 1e999 ° √ × １ а __import__('os')
open('x','w') eval( \write18{touch
"""
PIECES = [
    *WORDS.split(),
    *(" or ", " and ", "The answer is ", "Final answer:", "#### 7", "A train", "\n", " "),
    *("\u202e", "\U0001d7d9", "\x00", "\x02", "\ud800"),
]
CODE = [
    "__import__('os').system('touch {path}')",
    "open('{path}', 'w')",
    "__import__('pathlib').Path('{path}').touch()",
    "$(touch {path})",
    "`touch {path}`",
    "\\write18{{touch {path}}}",
    "\\input{{/etc/passwd}}",
    "exec(\"open('{path}','w')\")",
    "(lambda: open('{path}','w'))()",
    "x + open('{path}','w').write('1')",
]
LOOK_ALIKES = "аеорсхАВЕ１２３٣٤²³½⅓∕−–—０ⅤⅩ𝟏𝟐𝑥𝒙ｘ"


def nested(dice: random.Random, _: str) -> str:
    """Something inside of itself, many times."""
    start, end = dice.choice(
        [("\\boxed{", "}"), ("{", "}"), ("(", ")"), ("\\frac{", "}{2}"), ("\\sqrt{", "}"),
         ("<think>", "</think>"), ("\\text{", "}"), ("[", ")"), ("\\left(", "\\right)"), ("-", "")]
    )  # fmt: skip
    depth = dice.choice([5, 50, 500, 5_000, 50_000])
    ends = depth if dice.random() < 0.7 else dice.randrange(depth)
    return f"so \\boxed{{{start * depth}7{end * ends}}}"


def long(dice: random.Random, _: str) -> str:
    """Up to 1 MB of the same few pieces, with an answer at the end or none."""
    unit = "".join(dice.choices(PIECES, k=dice.randint(1, 4)))
    body = unit * (dice.choice([1_000, 20_000, MEGABYTE]) // len(unit))
    return body + dice.choice(["", "\\boxed{7}", "The answer is 7.", "\\boxed{7"])


def alike(dice: random.Random, _: str) -> str:
    """Letters that look like others."""
    return f"The answer is \\boxed{{{''.join(dice.choices(LOOK_ALIKES + 'x12+-', k=8))}}}"


def code(dice: random.Random, path: str) -> str:
    """Programs where an answer should be."""
    payload = dice.choice(CODE).format(path=path)
    return dice.choice(["\\boxed{{{}}}", "The answer is {}", "{}", "${}$"]).format(payload)


def bomb(dice: random.Random, _: str) -> str:
    """Short formulas that take long to work out."""
    tower = "9" + "^{9" * dice.randint(1, 30) + "}" * dice.randint(0, 30)
    made = dice.choice(
        [tower, "1e" + "9" * dice.randint(1, 40), "10^{" + "9" * dice.randint(1, 20) + "}",
         "9" * dice.randint(1, 400), "0.\\overline{" + "9" * 250 + "}", "1/" * 140 + "1",
         "(x+1)^{" + "9" * dice.randint(1, 9) + "}", "\\binom{99999}{4999}", "99999!",
         "\\pm" * 60 + "1", ",".join("x" * i for i in range(1, 20)),
         "\\sqrt{" * 20 + "2" + "}" * 20]
    )  # fmt: skip
    return f"\\boxed{{{made}}}"


def unbalanced(dice: random.Random, _: str) -> str:
    """Braces and brackets in any order."""
    return "".join(dice.choices("{}()[]$\\ 7x,^_=", k=dice.randint(1, 300)))


BUILT: list[Callable[[random.Random, str], str]] = [nested, long, alike, code, bomb, unbalanced]


def built(count: int, path: str) -> Iterator[tuple[str, str]]:
    """Hard texts and the name of what made them."""
    dice = random.Random(0)  # noqa: S311 - reproducible, not secret
    for number in range(count):
        make = BUILT[number % len(BUILT)]
        yield make.__name__, make(dice, path)


def drawn(count: int) -> list[str]:
    """Texts that Hypothesis makes; the same in every run."""
    texts: list[str] = []
    pieces = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
    kinds = st.one_of(pieces, pieces.map("\\boxed{{{}}}".format), st.text(max_size=300))

    @seed(0)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kinds)
    def keep(text: str) -> None:
        texts.append(text)

    keep()
    return texts


class Watch:
    """Times what is done, and keeps the slowest of each kind of work.

    Args:
        limit: Longest time of one piece of work, in seconds; None for none.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.stopped = shared().timeouts
        self.slowest: dict[str, float] = {}
        self.counts: Counter[str] = Counter()

    def time(self, what: str, work: Callable[[], object]) -> object:
        """Do the work; raise when it takes longer than the limit."""
        start = time.perf_counter()
        result = work()
        took = time.perf_counter() - start
        self.counts[what] += 1
        self.slowest[what] = max(took, self.slowest.get(what, 0.0))
        if self.limit is not None and took > self.limit:
            raise SystemExit(f"{what} took {took:.1f} s, which is more than {self.limit:g} s")
        if shared().timeouts > self.stopped:  # the helper starts anew, untimed, as at the beginning
            self.stopped = shared().timeouts
            equivalent(f"x+1+{self.stopped}", f"{self.stopped}+1+x")
        return result


def read(text: str, before: Answer | None, watch: Watch) -> Answer | None:
    """Take every kind of answer from one text, and compare; the automatic one is returned."""
    answer: Answer | None = None
    for kind in KINDS:
        found = watch.time("extraction", lambda kind=kind: extract_answer(text, kind))  # type: ignore[misc]
        if found is None:
            continue
        if not isinstance(found, Answer) or text[slice(*found.span)] != found.raw:
            raise SystemExit(f"the span of {found!r} is wrong")
        watch.counts[f"answers of kind {found.kind}"] += 1
        if not watch.time("comparison", lambda found=found: equivalent(found, found)):  # type: ignore[misc]
            raise SystemExit(f"{found!r} is not equal to itself")
        answer = found if kind == "auto" else answer
    if answer and before:
        there = watch.time("comparison", lambda: equivalent(answer, before))
        if there != watch.time("comparison", lambda: equivalent(before, answer)):
            raise SystemExit(f"{answer!r} and {before!r} depend on their order")
    return answer


def run(count: int, folder: Path, limit: float | None) -> tuple[Watch, Counter[str]]:
    """Read `count` texts in `folder`, which must be empty afterwards."""
    watch, made = Watch(limit), Counter[str]()
    texts = [("hypothesis", text) for text in drawn(count // 2)]
    texts += list(built(count - len(texts), str(folder / "executed")))
    before: Answer | None = None
    for name, text in texts:
        made[name] += 1
        before = read(text, before, watch) or before
    if left := list(folder.iterdir()):
        raise SystemExit(f"something was executed: {left}")
    return watch, made


def report(watch: Watch, made: Counter[str], seconds: float) -> str:
    """The results as a page."""
    lines = [
        "# Generated texts through extraction and equivalence",
        "",
        f"`python benchmarks/fuzz_answers.py --texts {sum(made.values())}`, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores shared with other work.",
        "",
        "No crash, no answer without its place in the text, none unequal to itself, no comparison "
        "that depends on the order, nothing executed.",
        "",
        "| what | count | slowest, s |",
        "|---|---|---|",
        *(f"| {w}s | {watch.counts[w]} | {watch.slowest[w]:.2f} |" for w in sorted(watch.slowest)),
        "",
        f"Comparisons stopped at their limit of {shared().limit:g} s and counted as different: "
        f"{shared().timeouts}; the start of the helper process after each, about a second, is not "
        f"in the figures above. All of it took {seconds:.0f} s.",
        "",
        "| texts | count |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in sorted(made.items())),
        "",
        "| found | count |",
        "|---|---|",
        *(f"| {n} | {c} |" for n, c in sorted(watch.counts.items()) if n.startswith("answers")),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--write", type=Path, help="where the page goes; printed without it")
    given_args = parser.parse_args()
    target = given_args.write.resolve() if given_args.write else None
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        equivalent("x+1", "1+x")  # starts the helper process, whose start is not what is timed
        start = time.perf_counter()
        watch, made = run(given_args.texts, Path(name), LIMIT)
        page = report(watch, made, time.perf_counter() - start)
        os.chdir("/")
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
