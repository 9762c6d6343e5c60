"""Calibration of verifiers on labelled candidates, and the bias of judges of pairs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscale.errors import InvalidInput, ScoreError
from ttscale.strategies import ComparingJudge
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Prompt, Usage
from ttscale.verifiers import (
    CallableVerifier,
    Labelled,
    PairJudge,
    acalibrate,
    aposition_bias,
    calibrate,
    calibration,
    position_bias,
)

ENGINE = ScriptedEngine(["unused"])


def test_perfect_verifier() -> None:
    """1 for right and 0 for wrong: AUROC 1, no calibration error."""
    found = calibration([1.0, 0.0, 1.0, 0.0], [True, False, True, False])

    assert (found.auroc, found.auroc_interval) == (1.0, (1.0, 1.0))
    assert (found.ece, found.ece_interval) == (0.0, (0.0, 0.0))
    assert (found.n, found.right, found.failed) == (4, 2, 0)


def test_known_figures() -> None:
    """Worked by hand: 5 of 6 pairs in order with one tie; two bins of three and two."""
    scores = [0.9, 0.6, 0.6, 0.1, 0.2]
    labels = [True, True, False, False, False]
    found = calibration(scores, labels, bins=2)

    assert found.auroc == pytest.approx((1 + 1 + 1 + 0.5 + 1 + 1) / 6)
    assert [(b.count, b.right) for b in found.bins] == [(2, 0.0), (3, pytest.approx(2 / 3))]
    assert found.ece == pytest.approx((2 * 0.15 + 3 * abs(0.7 - 2 / 3)) / 5)


def test_interval_of_auroc_is_that_of_delong() -> None:
    """Against the formula written with the kernel over all pairs."""
    dice = random.Random(0)  # noqa: S311 - a fixed example
    labels = [dice.random() < 0.4 for _ in range(60)]
    scores = [min(1.0, max(0.0, dice.gauss(0.6 if y else 0.4, 0.2))) for y in labels]
    right = [s for s, y in zip(scores, labels, strict=True) if y]
    wrong = [s for s, y in zip(scores, labels, strict=True) if not y]
    kernel = [[(r > w) + (r == w) / 2 for w in wrong] for r in right]
    value = sum(map(sum, kernel)) / (len(right) * len(wrong))
    rows = [sum(row) / len(wrong) for row in kernel]
    columns = [sum(row[j] for row in kernel) / len(right) for j in range(len(wrong))]
    variance = sum((x - value) ** 2 for x in rows) / (len(right) - 1) / len(right)
    variance += sum((x - value) ** 2 for x in columns) / (len(wrong) - 1) / len(wrong)

    found = calibration(scores, labels)

    assert found.auroc == pytest.approx(value)
    assert found.auroc_interval is not None
    assert found.auroc_interval[0] == pytest.approx(value - 1.959963984540054 * math.sqrt(variance))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_figures_are_in_range(pairs: list[tuple[float, bool]]) -> None:
    """For any scores: shares are shares, bins hold everyone, intervals hold the figure."""
    found = calibration([s for s, _ in pairs], [y for _, y in pairs])

    assert sum(part.count for part in found.bins) == found.n == len(pairs)
    assert 0 <= found.ece <= 1
    assert 0 <= found.ece_interval[0] <= found.ece_interval[1] <= 1
    if found.auroc is not None and found.auroc_interval is not None:
        assert 0 <= found.auroc_interval[0] <= found.auroc <= found.auroc_interval[1] <= 1


def test_scale_of_the_verifier_is_taken_into_account() -> None:
    """Scores from 1 to 10 are rescaled; AUROC does not change by that."""
    scores, labels = [10.0, 1.0, 5.5], [True, False, True]
    found = calibration(scores, labels, low=1.0, high=10.0)

    assert found.auroc == 1.0
    assert found.ece == pytest.approx(0.5 / 3)


def test_failed_scores_are_counted_and_left_out() -> None:
    """They are no zeros."""
    found = calibration([1.0, None, 0.0], [True, True, False])

    assert (found.n, found.failed, found.auroc) == (2, 1, 1.0)


def test_one_kind_of_label_has_no_auroc() -> None:
    """There is nothing to tell apart."""
    found = calibration([0.2, 0.9], [True, True])

    assert (found.auroc, found.auroc_interval) == (None, None)


@pytest.mark.parametrize(
    ("scores", "labels", "match"),
    [
        ([0.1], [True, False], "1 scores and 2 labels"),
        ([None], [True], "nothing can be calibrated"),
        ([], [], "nothing can be calibrated"),
        ([1.5], [True], r"must be in \[0, 1\]"),
        ([math.nan], [True], r"must be in \[0, 1\]"),
    ],
)
def test_bad_input_is_refused(scores: list[float | None], labels: list[bool], match: str) -> None:
    """With what is wrong about it."""
    with pytest.raises(InvalidInput, match=match):
        calibration(scores, labels)


async def test_verifier_is_asked_prompt_by_prompt() -> None:
    """Candidates of one prompt are scored together; one that fails is counted."""
    asked: list[tuple[str, str]] = []

    def score(question: str, text: str) -> float:
        asked.append((question, text))
        if text == "odd":
            raise ScoreError("no idea")
        return 1.0 if text == "right" else 0.0

    labelled = [
        Labelled(Prompt.of("p"), "right", True),
        Labelled(Prompt.of("q"), "wrong", False),
        Labelled(Prompt.of("p"), "odd", True),
        Labelled(Prompt.of("q"), "right", True),
    ]
    found = await acalibrate(CallableVerifier(score), labelled, ENGINE)

    assert sorted(asked) == [("p", "odd"), ("p", "right"), ("q", "right"), ("q", "wrong")]
    assert (found.n, found.failed, found.right, found.auroc) == (3, 1, 2, 1.0)


def test_calibrate_works_without_a_loop() -> None:
    """For scripts."""
    labelled = [Labelled(Prompt.of("p"), "a", True), Labelled(Prompt.of("p"), "bb", False)]
    found = calibrate(CallableVerifier(lambda q, t: 1 / len(t)), labelled, ENGINE)

    assert (found.auroc, found.usage) == (1.0, Usage())


PAIRS = [(Prompt.of("q"), "good", "weak"), (Prompt.of("q"), "weak", "good")]


def fair(prompt: Prompt, index: int) -> Scripted:
    """Favours what is good, in JSON."""
    first = prompt.question.split("Solution A:\n")[1]
    return '{"better": "A"}' if first.startswith("good") else '{"better": "B"}'


async def test_fair_judge_has_no_bias() -> None:
    """Both orders name the same one."""
    found = await aposition_bias(PairJudge(), PAIRS, ScriptedEngine(fair))

    assert (found.n, found.consistent, found.failed) == (2, 2, 0)
    assert found.usage.completion_tokens == 8


@pytest.mark.parametrize(
    ("said", "field"), [("A", "first"), ("B", "second"), ("tie", "consistent")]
)
def test_bias_to_a_place_is_counted(said: str, field: str) -> None:
    """Always the first, always the second; always a tie is consistent."""
    found = position_bias(PairJudge(), PAIRS, ScriptedEngine([f'{{"better": "{said}"}}']))

    assert getattr(found, field) == found.n == 2


async def test_tie_in_one_order_alone_is_mixed() -> None:
    """Neither consistent nor a favour for a place."""
    said = iter(['{"better": "A"}', '{"better": "tie"}'])
    engine = ScriptedEngine(lambda prompt, index: next(said))

    assert (await aposition_bias(PairJudge(), PAIRS[:1], engine)).mixed == 1


async def test_judge_by_log_probabilities_can_be_checked_too() -> None:
    """Any verifier that compares; a pair without an answer is counted as failed."""
    always_a = {"A": math.log(0.8), "B": math.log(0.2)}
    engine = ScriptedEngine([candidate("A", top_logprobs=always_a)])
    biased = await aposition_bias(ComparingJudge(), PAIRS, engine)
    failed = await aposition_bias(ComparingJudge(), PAIRS, ScriptedEngine(["?"]))

    assert (biased.first, biased.n) == (2, 2)
    assert (failed.failed, failed.n) == (2, 0)
