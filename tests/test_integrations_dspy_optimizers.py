"""DSPy's optimizers, run for real through the strategy modules on a scripted engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from ttscale import ESamp
from ttscale.integrations.dspy import (
    AdaptiveSelfConsistency,
    BestOfN,
    ESampLM,
    SelfConsistency,
    VerifierRerank,
    metric_verifier,
    verifier_metric,
)
from ttscale.testing import Scripted, ScriptedEngine
from ttscale.types import Prompt
from ttscale.verifiers import CallableVerifier

SUM = re.compile(r"(\d+) \+ (\d+)")
SIGNATURE = "question -> answer"


def examples(first: int, count: int) -> list[Any]:
    """Sums with their answers."""
    pairs = [(a, a + 2) for a in range(first, first + count)]
    made = [dspy.Example(question=f"{a} + {b}", answer=str(a + b)) for a, b in pairs]
    return [example.with_inputs("question") for example in made]


TRAIN, DEV = examples(1, 6), examples(20, 5)


def exact(gold: Any, pred: Any, trace: Any = None) -> bool:
    """Whether the answer is right."""
    return bool(pred.answer == gold.answer)


def chat(answer: object, reasoning: str) -> str:
    """What a model writes in DSPy's chat format."""
    return (
        f"[[ ## reasoning ## ]]\n{reasoning}\n\n[[ ## answer ## ]]\n{answer}\n\n"
        "[[ ## completed ## ]]"
    )


def adder(prompt: Prompt, index: int) -> Scripted:
    """A model whose first sample is wrong, whose second does not parse, and whose others are right.

    Without demonstrations or the hint in its instruction, it is wrong on odd questions.
    """
    a, b = map(int, SUM.findall(prompt.question)[-1])
    taught = len(prompt.messages) > 2 or "carefully" in prompt.messages[0].content
    if index == 0:
        return chat(a + b + 1, "a slip")
    if index == 1:
        return "I would rather not say."
    return chat(a + b if taught or a % 2 == 0 else a + b + 10, "count on")


def proposer(prompt: Prompt, index: int) -> Scripted:
    """A model that proposes one instruction: in JSON for GEPA, else in the fields asked for."""
    if "JSON" in prompt.question:
        return '{"new_instruction": "Add carefully."}'
    wanted = re.findall(r"`\[\[ ## (\w+) ## \]\]`", prompt.question)
    fields = [f"[[ ## {name} ## ]]\nAdd carefully." for name in wanted if name != "completed"]
    return "\n\n".join(fields)


def modules() -> list[Any]:
    """Each strategy as a student."""
    by_metric = metric_verifier(exact, [*TRAIN, *DEV])
    return [
        SelfConsistency(SIGNATURE, n=4),
        AdaptiveSelfConsistency(SIGNATURE, n=8, batch=4),
        BestOfN(SIGNATURE, n=4, verifier=by_metric),
        VerifierRerank(SIGNATURE, by_metric, n=4),
    ]


def score(program: Any) -> float:
    """Percentage of the development set."""
    return float(dspy.Evaluate(devset=DEV, metric=exact, num_threads=2)(program).score)


def demos_of(program: Any) -> list[Any]:
    """Demonstrations that were made of traces."""
    demos = [demo for predictor in program.predictors() for demo in predictor.demos]
    return [demo for demo in demos if demo.get("augmented")]


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    """A cache in memory only, and empty: nothing reaches the user's home or another test."""
    dspy.configure_cache(enable_disk_cache=False)
    yield
    dspy.configure_cache(enable_disk_cache=False)


@pytest.fixture
def lm() -> Iterator[ESampLM]:
    """The adding model, in use."""
    adding = ESampLM(ScriptedEngine(adder), esamp=ESamp())
    with dspy.context(lm=adding):
        yield adding


@pytest.mark.usefixtures("lm")
@pytest.mark.parametrize("student", modules())
def test_bootstrap_few_shot_learns_from_winners(student: Any) -> None:
    """Demonstrations are right candidates, never the wrong first one; the score does not fall."""
    optimizer = dspy.BootstrapFewShot(
        metric=exact, max_bootstrapped_demos=2, max_labeled_demos=0, max_rounds=2
    )
    before = score(student)

    compiled = optimizer.compile(student, trainset=TRAIN)

    demos = demos_of(compiled)
    assert len(demos) == 2
    assert all(demo.reasoning == "count on" for demo in demos)
    assert all(exact(demo, demo) for demo in demos)
    assert {demo.question: demo.answer for demo in demos}.items() <= {
        example.question: example.answer for example in TRAIN
    }.items()
    assert (before, score(compiled)) == (60.0, 100.0)


@pytest.mark.usefixtures("lm")
def test_random_search_compiles_through_a_vote() -> None:
    """BootstrapFewShotWithRandomSearch keeps the best of its programs."""
    student = SelfConsistency(SIGNATURE, n=4)
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=exact,
        max_bootstrapped_demos=1,
        max_labeled_demos=1,
        num_candidate_programs=1,
        num_threads=2,
    )

    compiled = optimizer.compile(student, trainset=TRAIN, valset=DEV)

    assert score(student) <= score(compiled) == 100.0
    assert type(compiled) is SelfConsistency


# MIPROv2 of DSPy 3.4 samples with optuna, which warns about what is experimental in itself.
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.usefixtures("lm")
def test_mipro_compiles_through_a_vote() -> None:
    """MIPROv2 proposes instructions and demonstrations and does not lose ground."""
    student = SelfConsistency(SIGNATURE, n=4)
    proposing = ESampLM(ScriptedEngine(proposer, model="proposer"))
    optimizer = dspy.MIPROv2(
        metric=exact,
        prompt_model=proposing,
        task_model=dspy.settings.lm,
        auto=None,
        num_candidates=2,
        max_bootstrapped_demos=1,
        max_labeled_demos=1,
        num_threads=2,
    )

    compiled = optimizer.compile(student, trainset=TRAIN, valset=DEV, num_trials=2, minibatch=False)

    assert score(student) <= score(compiled) == 100.0


@pytest.mark.usefixtures("lm")
def test_gepa_compiles_through_a_vote_with_a_verifiers_feedback() -> None:
    """GEPA reflects on the winner's trace and on the verifier's words, and improves the program."""
    student = SelfConsistency(SIGNATURE, n=4)
    right = {example.question: example.answer for example in [*TRAIN, *DEV]}
    verifier = CallableVerifier(lambda q, t: float(t.split()[-1] == right[q]), name="adding")
    engine = ScriptedEngine(proposer, model="reflecting")
    optimizer = dspy.GEPA(
        metric=verifier_metric(verifier),
        reflection_lm=ESampLM(engine),
        max_metric_calls=30,
        num_threads=2,
    )

    compiled = optimizer.compile(student, trainset=TRAIN, valset=DEV)

    assert compiled.inner.predict.signature.instructions == "Add carefully."
    assert score(student) <= score(compiled) == 100.0
    reflected = engine.calls[0].prompt.question
    assert "adding scores this 0.00" in reflected
    assert "count on" in reflected
    assert "a slip" not in reflected


@pytest.mark.usefixtures("lm")
def test_compiled_program_is_saved_and_loaded(tmp_path: Path) -> None:
    """A loaded program has the demonstrations and settings, and the same score."""
    optimizer = dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=2, max_labeled_demos=0)
    compiled = optimizer.compile(SelfConsistency(SIGNATURE, n=4, seed=3), trainset=TRAIN)
    compiled.save(tmp_path / "program.json")

    loaded = SelfConsistency(SIGNATURE)
    loaded.load(tmp_path / "program.json")

    assert loaded.settings == compiled.settings
    assert len(demos_of(loaded)) == 2
    assert score(loaded) == score(compiled)


def test_rounds_of_bootstrap_draw_afresh(lm: ESampLM) -> None:
    """A second round is a rollout of its own, so its candidates are drawn, not remembered."""
    optimizer = dspy.BootstrapFewShot(
        metric=lambda gold, pred, trace=None: False, max_labeled_demos=0, max_rounds=3
    )

    optimizer.compile(SelfConsistency(SIGNATURE, n=4), trainset=TRAIN[:1])

    engine: ScriptedEngine = lm.engine.engine
    assert [call.n for call in engine.calls] == [4, 4, 4]
