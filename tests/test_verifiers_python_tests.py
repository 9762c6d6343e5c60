"""Unit tests in the sandbox as a verifier."""

from __future__ import annotations

import pytest

from ttscale.errors import InvalidInput, SandboxUnavailable
from ttscale.sandbox import Limits, isolation
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import Prompt
from ttscale.verifiers import PythonTests, ScoreSheet, Verifier
from ttscale.verifiers.python_tests import program_in

pytestmark = pytest.mark.skipif(
    isolation().level != "full", reason="this machine cannot isolate programs"
)
RIGHT = "Here:\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds."
HALF = "```python\ndef add(a, b):\n    return a * b\n```"
TESTS = ("assert add(2, 2) == 4", "assert add(2, 3) == 5")


async def scored(verifier: Verifier, *texts: str) -> ScoreSheet:
    """The verifier's sheet for candidates with these texts."""
    candidates = [candidate(text, index=i) for i, text in enumerate(texts)]
    return await verifier.ascore(Prompt.of("Add."), candidates, ScriptedEngine(["unused"]))


async def test_program_passes_all_tests_or_none_count() -> None:
    """1 for all of them, 0 for less; text without a program does not pass."""
    sheet = await scored(PythonTests(TESTS), RIGHT, HALF, "I cannot.", "```python\nexit(0)\n```")

    assert [score.value for score in sheet.scores] == [1.0, 0.0, 0.0, 0.0]
    assert sheet.usage.completion_tokens == 0


async def test_share_of_tests_can_be_the_score() -> None:
    """With `partial` each test counts for itself."""
    sheet = await scored(PythonTests(TESTS, partial=True), RIGHT, HALF)

    assert [score.value for score in sheet.scores] == [1.0, 0.5]


async def test_endless_program_is_not_right_and_holds_up_no_other() -> None:
    """What is not done in time has not passed."""
    verifier = PythonTests(TESTS, limits=Limits(seconds=0.7))
    sheet = await scored(verifier, "```python\nwhile True: pass\n```", RIGHT)

    assert [score.value for score in sheet.scores] == [0.0, 1.0]


async def test_check_is_given_the_function_and_a_prefix_completes_the_program() -> None:
    """As in HumanEval: the prompt begins the function, the model ends it."""
    verifier = PythonTests(
        "def check(candidate):\n    assert candidate(2) == 3",
        entry_point="next_one",
        prefix="def next_one(x):\n",
    )
    sheet = await scored(verifier, "    return x + 1\n", "    return x\n")

    assert [score.value for score in sheet.scores] == [1.0, 0.0]


async def test_verdict_says_why_and_how_it_was_isolated() -> None:
    """For one candidate all that is known can be had."""
    verdict = await PythonTests(TESTS).averdict(HALF)

    assert verdict.failures == (None, "line 1, assert add(2, 3) == 5: AssertionError")
    assert verdict.run.isolation.level == "full"


async def test_machine_without_isolation_is_an_error_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing runs unguarded, and no candidate is said to have failed."""
    monkeypatch.setattr("sys.platform", "plan9")

    with pytest.raises(SandboxUnavailable, match="needs Linux"):
        await scored(PythonTests(TESTS), RIGHT)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\na\n```\ntext\n```python\nb\n```", "b\n"),
        ("```\na\n```\n```text\nb\n```", "a\n"),
        ("```py\na\n```\n```\n>>> out\n```", "a\n"),
        ("<think>```python\na\n```</think>\n```python\nb\n```", "b\n"),
        ("    return 1", "    return 1"),
        ("  ```Python title\n  a = 1\n  ```", "  a = 1\n"),
    ],
)
def test_program_is_the_last_block(text: str, program: str) -> None:
    """Python before blocks of no language; without any block the whole text."""
    assert program_in(text) == program


@pytest.mark.parametrize(
    "settings", [{"tests": ()}, {"tests": " "}, {"require": "some"}, {"concurrency": 0}]
)
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    """A bad setting is refused at construction."""
    with pytest.raises(InvalidInput, match="must be"):
        PythonTests(**{"tests": TESTS, **settings})  # type: ignore[arg-type]
