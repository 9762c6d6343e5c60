"""The strategy modules for DSPy, on a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel

from ttscale import ESamp
from ttscale.errors import InvalidInput, ScoreError
from ttscale.integrations.dspy import (
    AdaptiveSelfConsistency,
    BestOfN,
    ESampLM,
    SelfConsistency,
    VerifierRerank,
)
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Prompt
from ttscale.verifiers import CallableVerifier, SelfJudge

SIGNATURE = "question -> answer"


def chat(answer: object, reasoning: str = "so") -> str:
    """What a model writes in DSPy's chat format."""
    return (
        f"[[ ## reasoning ## ]]\n{reasoning}\n\n[[ ## answer ## ]]\n{answer}\n\n"
        "[[ ## completed ## ]]"
    )


def likes(word: str) -> CallableVerifier:
    """A verifier that wants `word` in the text."""
    return CallableVerifier(lambda question, text: float(word in text), name="likes")


def every_module(n: int = 4) -> list[Any]:
    """One module of each kind."""
    return [
        SelfConsistency(SIGNATURE, n=n),
        AdaptiveSelfConsistency(SIGNATURE, n=n, batch=n),
        BestOfN(SIGNATURE, lambda inputs, prediction: float("1" in prediction.answer), n=n),
        VerifierRerank(SIGNATURE, likes("answer: 1"), n=n),
    ]


class Draft(dspy.Module):  # type: ignore[misc]
    """A program of two predictors, with or without an asynchronous form."""

    def __init__(self) -> None:
        super().__init__()
        self.draft = dspy.Predict("question -> answer")
        self.final = dspy.Predict("question, draft -> answer")

    def forward(self, question: str) -> Any:
        """Answer twice."""
        draft = self.draft(question=question).answer
        return self.final(question=question, draft=draft)


class AsyncDraft(Draft):
    """The same with an asynchronous form."""

    async def aforward(self, question: str) -> Any:
        """Answer twice."""
        draft = (await self.draft.acall(question=question)).answer
        return await self.final.acall(question=question, draft=draft)


def run(module: Any, engine: ScriptedEngine, **settings: Any) -> tuple[Any, list[Any]]:
    """The prediction of `module` and the trace that it leaves."""
    with dspy.context(lm=ESampLM(engine, **settings), trace=[]):
        prediction = module(question="q")
        return prediction, list(dspy.settings.trace)


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    """A cache in memory only, and empty: nothing reaches the user's home or another test."""
    dspy.configure_cache(enable_disk_cache=False)
    yield
    dspy.configure_cache(enable_disk_cache=False)


@pytest.mark.parametrize("module", every_module())
def test_winner_is_returned_and_traced_and_losers_are_kept(module: Any) -> None:
    """One draw; the winner in the prediction and in the trace, all in `.completions`."""
    engine = ScriptedEngine([chat(9, "bad"), chat(1, "good"), chat(1, "good"), chat(8, "bad")])

    prediction, trace = run(module, engine)

    assert [call.n for call in engine.calls] == [4]
    assert (prediction.answer, prediction.reasoning) == ("1", "good")
    assert prediction.completions.answer == ["9", "1", "1", "8"]
    assert prediction.choice.place == 1
    [(predictor, inputs, output)] = trace
    assert predictor is module.inner.predict
    assert inputs == {"question": "q"}
    assert dict(output.items()) == {"reasoning": "good", "answer": "1"}


@pytest.mark.parametrize("module", every_module())
async def test_asynchronous_form_does_the_same(module: Any) -> None:
    """`acall` draws once, too, and leaves the same trace."""
    engine = ScriptedEngine([chat(9, "bad"), chat(1, "good"), chat(1, "good"), chat(8, "bad")])

    with dspy.context(lm=ESampLM(engine), trace=[]):
        prediction = await module.acall(question="q")
        trace = list(dspy.settings.trace)

    assert [call.n for call in engine.calls] == [4]
    assert prediction.answer == "1"
    assert trace[0][0] is module.inner.predict
    assert trace[0][2].reasoning == "good"


@pytest.mark.parametrize("module", every_module())
def test_candidates_that_do_not_parse_are_dropped(module: Any) -> None:
    """Text without fields and an empty text lose only themselves, and are not asked for again."""
    engine = ScriptedEngine(["no fields here", "", chat(1, "good"), chat(9)])

    prediction, _ = run(module, engine)

    assert prediction.answer == "1"
    assert prediction.completions.answer == ["1", "9"]
    assert prediction.choice.drawn == 4
    assert "no fields here" in prediction.choice.dropped[0]
    assert len(prediction.choice.dropped) == 2
    assert len(engine.calls) == 1


@pytest.mark.parametrize("module", every_module())
def test_predictors_are_visible_to_optimizers(module: Any) -> None:
    """The inner predictor is the one named predictor, and its LM can be set."""
    lm = ESampLM(ScriptedEngine([chat(1)]))

    assert [name for name, _ in module.named_predictors()] == ["inner.predict"]
    module.set_lm(lm)
    assert module.get_lm() is lm
    assert module(question="q").answer == "1"


@pytest.mark.parametrize("module", every_module())
def test_module_is_deep_copied_with_its_engine(module: Any) -> None:
    """Optimizers deep-copy programs; the copy works and draws from the same engine."""
    engine = ScriptedEngine([chat(1)])
    module.set_lm(ESampLM(engine))

    twin = module.deepcopy()

    assert twin(question="q").answer == "1"
    assert twin.inner is not module.inner
    assert twin.settings == module.settings
    assert len(engine.calls) == 1


def test_when_nothing_parses_the_format_is_changed_once() -> None:
    """With no candidate left, DSPy's JSON format is tried, as one draw, and may lose some too."""
    engine = ScriptedEngine(
        lambda prompt, i: (
            ['{"reasoning": "r", "answer": "5"}', "oh"][i % 2]
            if "JSON" in prompt.messages[0].content
            else "prose"
        )
    )

    prediction, _ = run(SelfConsistency(SIGNATURE, n=4), engine)

    assert [call.n for call in engine.calls] == [4, 4]
    assert prediction.completions.answer == ["5", "5"]


def test_set_without_any_candidate_is_a_parse_error() -> None:
    """When no format helps, DSPy's own error tells what the model wrote."""
    with pytest.raises(AdapterParseError, match="mumble"):
        run(SelfConsistency(SIGNATURE, n=2), ScriptedEngine(["mumble"]))


@pytest.mark.parametrize(
    ("signature", "answers", "winner"),
    [
        ("question -> answer", ["9", "1/2", "0.5", r"$\frac{1}{2}$"], "1/2"),
        ("question -> answer", ["9", "Paris", "paris.", "Rome"], "Paris"),
        ("question -> answer", ["5", "-5", "-5.0"], "-5"),
        ("question -> answer: float", ["9", "0.50", "0.5", "5e-1"], 0.5),
        ("question -> answer: int", ["9", "12", "012", "12"], 12),
        ("question -> answer: bool", ["True", "False", "False"], False),
        ("question -> answer: list[int]", ["[1]", "[1, 2]", "[1,2]", "[2, 1]"], [1, 2]),
    ],
)
def test_typed_field_is_voted_on_by_value(signature: str, answers: list[str], winner: Any) -> None:
    """Numbers, formulas, words and lists are counted by what they mean, not by their spelling."""
    engine = ScriptedEngine([chat(answer) for answer in answers])

    prediction, _ = run(SelfConsistency(signature, n=len(answers)), engine)

    assert prediction.answer == winner
    assert type(prediction.answer) is type(winner)
    assert prediction.choice.votes[0].count > 1
    assert not prediction.choice.tie


def test_choice_letters_and_models_are_voted_on() -> None:
    """Literals are compared as words, pydantic models as data."""

    class Point(BaseModel):
        x: int
        y: int = 0

    letters = dspy.Signature("question -> answer").with_updated_fields(
        "answer", type_=Literal["A", "B"]
    )
    points = dspy.Signature("question -> answer").with_updated_fields("answer", type_=Point)

    by_letter, _ = run(
        SelfConsistency(letters, n=3), ScriptedEngine([chat("A"), chat("B"), chat("B")])
    )
    by_point, _ = run(
        SelfConsistency(points, n=3),
        ScriptedEngine([chat('{"x": 2}'), chat('{"x": 1}'), chat('{"y": 0, "x": 1}')]),
    )

    assert by_letter.answer == "B"
    assert by_point.answer == Point(x=1)


def test_kind_decides_what_a_text_field_states() -> None:
    """With kind number prose is read for its number; without one the candidate abstains."""
    texts = ["It costs 7 euros, I believe, all in all and counting.", "perhaps", "7", "8"]
    engine = ScriptedEngine([chat(text) for text in texts])

    prediction, _ = run(SelfConsistency(SIGNATURE, n=4, kind="number"), engine)

    assert [(v.answer, v.count) for v in prediction.choice.votes] == [("7", 2), ("8", 1)]


def test_field_to_vote_on_can_be_named() -> None:
    """Votes are about the named field; an unknown name is refused with the known ones."""
    engine = ScriptedEngine([chat(1, "x"), chat(1, "y"), chat(2, "y")])

    prediction, _ = run(SelfConsistency(SIGNATURE, n=3, field="reasoning"), engine)

    assert prediction.reasoning == "y"
    with pytest.raises(InvalidInput, match="the fields are reasoning, answer"):
        run(SelfConsistency(SIGNATURE, n=3, field="anwser"), engine)


def test_without_an_answer_the_likeliest_candidate_is_taken_and_reported() -> None:
    """When everybody abstains, the choice says so."""
    texts = [candidate(chat("well"), logprob=-9.0), candidate(chat("hm"), logprob=-1.0)]

    prediction, _ = run(SelfConsistency(SIGNATURE, n=2, kind="number"), ScriptedEngine(texts))

    assert prediction.answer == "hm"
    assert prediction.choice.abstained
    assert prediction.choice.answer is None


def test_likeliest_member_of_the_winning_class_is_the_winner() -> None:
    """Log-probabilities of the LM decide among equivalent candidates, also from the cache."""
    texts = [
        candidate(chat("0.5", "unlikely"), logprob=-90.0, token_count=10),
        candidate(chat("1/2", "likely"), logprob=-10.0, token_count=10),
    ]
    engine = ScriptedEngine(texts)
    module = SelfConsistency(SIGNATURE, n=2)

    winners = [run(module, engine)[0].reasoning for _ in range(2)]

    assert winners == ["likely", "likely"]
    assert len(engine.calls) == 1


def test_temperature_and_esamp_are_those_of_the_module() -> None:
    """A module's own settings go to its draw; without them the LM's hold."""
    engine = ScriptedEngine([chat(1)])

    run(SelfConsistency(SIGNATURE, n=2), engine, temperature=0.4)
    run(SelfConsistency(SIGNATURE, n=2, temperature=1.2, esamp=ESamp(beta=2.0)), engine)
    run(SelfConsistency(SIGNATURE, n=2), engine, temperature=0.0)

    samplers = [call.sampler for call in engine.calls]
    assert [s.temperature for s in samplers] == [0.4, 1.2, 1.0]
    assert [s.esamp for s in samplers] == [None, ESamp(beta=2.0), None]


def test_votes_are_never_greedy_copies_of_each_other() -> None:
    """On a greedy LM the candidates of a vote are sampled, also one by one; a lone one is not."""
    engine = ScriptedEngine([chat(1), chat(2)])

    run(AdaptiveSelfConsistency(SIGNATURE, n=3, batch=1), engine, temperature=0.0)
    run(SelfConsistency(SIGNATURE, n=1), engine, temperature=0.0, cache=False)
    run(SelfConsistency(SIGNATURE, n=1, temperature=0.0), engine, cache=False)

    assert [call.sampler.temperature for call in engine.calls] == [1.0, 1.0, 0.0, 0.0]


def test_esamp_needs_an_esamp_lm() -> None:
    """Another LM cannot draw with ESamp, and is not silently used without."""
    module = SelfConsistency(SIGNATURE, n=2, esamp=ESamp())

    with (
        dspy.context(lm=dspy.utils.DummyLM([{"answer": "x"}])),
        pytest.raises(InvalidInput, match="esamp needs an ESampLM"),
    ):
        module(question="q")


def test_modules_work_on_any_lm() -> None:
    """On another LM a vote asks it n times, as DSPy does."""
    answers = [{"reasoning": "r", "answer": a} for a in ("9", "7", "7.0")]

    with dspy.context(lm=dspy.utils.DummyLM(answers)):
        prediction = SelfConsistency(SIGNATURE, n=3)(question="q")

    assert prediction.answer == "7"


@pytest.mark.parametrize("program", [Draft(), AsyncDraft()])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_any_module_runs_n_times_and_the_winning_run_is_traced(
    program: Any, asynchronous: bool
) -> None:
    """Whole programs are candidates; the trace is that of the winning run, on its own predictors.

    The runs share one ESamp group, and are rollouts of their own.
    """
    drafts: Iterator[Scripted] = iter([f"[[ ## answer ## ]]\nd{i}" for i in range(4)])

    def script(prompt: Prompt, i: int) -> Scripted:
        if "draft" not in prompt.messages[0].content:
            return next(drafts)
        return f"[[ ## answer ## ]]\n{'9' if 'd0' in prompt.question else '7'}"

    engine = ScriptedEngine(script)
    module = SelfConsistency(program, n=4)

    with dspy.context(lm=ESampLM(engine, esamp=ESamp()), trace=[]):
        call = module.acall(question="q") if asynchronous else None
        prediction = asyncio.run(call) if call else module(question="q")
        trace = list(dspy.settings.trace)

    assert len(engine.calls) == 8
    assert len({call.sampler.esamp and call.sampler.esamp.group for call in engine.calls}) == 1
    assert prediction.answer == "7"
    assert sorted(prediction.completions.answer) == ["7", "7", "7", "9"]
    assert [step[0] for step in trace] == [program.draft, program.final]
    assert trace[0][2].answer == trace[1][1]["draft"] != "d0"
    assert [name for name, _ in module.named_predictors()] == ["inner.draft", "inner.final"]


def test_runs_of_a_module_use_the_lms_of_its_predictors() -> None:
    """A predictor's own LM is drawn from in every run, also within a compiled part."""
    own, other = ScriptedEngine(["[[ ## answer ## ]]\n1"]), ScriptedEngine(["x"], model="other")
    program = Draft()
    program.set_lm(ESampLM(own))
    program._compiled = True

    prediction, _ = run(SelfConsistency(program, n=3), other)

    assert prediction.answer == "1"
    assert (len(own.calls), len(other.calls)) == (6, 0)


def test_run_that_does_not_parse_loses_only_itself() -> None:
    """One broken run of three is dropped with its reason."""
    texts: Iterator[Scripted] = iter(["[[ ## answer ## ]]\n1"] * 2)
    engine = ScriptedEngine(
        lambda prompt, i: next(texts, "[[ ## nothing ## ]]") if i == 0 else "never"
    )
    program = dspy.Predict("question -> answer")

    class Wrapped(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = program

        def forward(self, question: str) -> Any:
            return self.inner(question=question)

    prediction, _ = run(SelfConsistency(Wrapped(), n=3), engine)

    assert prediction.completions.answer == ["1", "1"]
    assert len(prediction.choice.dropped) == 1


def test_program_error_is_not_taken_for_a_bad_candidate() -> None:
    """A bug in a program raises; it is no candidate that failed to parse."""

    class Buggy(dspy.Module):  # type: ignore[misc]
        def forward(self, question: str) -> Any:
            raise KeyError("typo")

    with pytest.raises(KeyError, match="typo"):
        run(SelfConsistency(Buggy(), n=2), ScriptedEngine(["x"]))


def test_adaptive_vote_stops_when_the_result_is_certain() -> None:
    """Unanimous votes stop at 9 of 16 by the exact rule, drawn in different rollouts."""
    engine = ScriptedEngine([chat(7)])
    module = AdaptiveSelfConsistency(SIGNATURE, n=16, batch=3, alpha=None)

    prediction, trace = run(module, engine)

    assert [call.n for call in engine.calls] == [3, 3, 3]
    assert prediction.choice.drawn == 9
    assert len(prediction.completions) == 9
    assert len(trace) == 1


async def test_adaptive_vote_stops_by_its_test() -> None:
    """With alpha 0.05 unanimous votes stop at 9, however many would be left."""
    engine = ScriptedEngine([chat(7)])

    with dspy.context(lm=ESampLM(engine)):
        module = AdaptiveSelfConsistency(SIGNATURE, n=100, batch=1)
        prediction = await module.acall(question="q")

    assert prediction.choice.drawn == 9


def test_adaptive_vote_draws_all_when_undecided() -> None:
    """A tie is drawn to the end; the last batch is as large as what is left."""
    engine = ScriptedEngine([chat(7), chat(8)])

    prediction, _ = run(AdaptiveSelfConsistency(SIGNATURE, n=10, batch=4), engine)

    assert [call.n for call in engine.calls] == [4, 4, 2]
    assert prediction.choice.tie


def test_adaptive_vote_keeps_earlier_rounds_when_a_later_one_fails() -> None:
    """A round in which nothing parses is counted as dropped, not as the end of the vote."""
    texts: Iterator[Scripted] = iter([chat(7), chat(8)])
    engine = ScriptedEngine(lambda prompt, i: next(texts, "mumble"))

    prediction, _ = run(AdaptiveSelfConsistency(SIGNATURE, n=4, batch=2), engine)

    assert prediction.completions.answer == ["7", "8"]
    assert prediction.choice.drawn == 4


def test_best_of_n_takes_the_highest_reward() -> None:
    """Rewards get inputs and prediction; one that fails takes only its candidate out."""

    def reward(inputs: dict[str, Any], prediction: Any) -> float:
        assert inputs == {"question": "q"}
        return 10.0 / float(prediction.answer)

    engine = ScriptedEngine([chat(5), chat("none"), chat(2), chat(4)])

    prediction, _ = run(BestOfN(SIGNATURE, reward, n=4), engine)

    assert prediction.answer == "2"
    assert [score.value for score in prediction.choice.scores] == [2.0, None, 5.0, 2.5]
    assert "ValueError" in (prediction.choice.scores[1].error or "")


def test_best_of_n_without_a_reward_takes_the_likeliest() -> None:
    """The mean log-probability per token decides."""
    texts = [
        candidate(chat(1), logprob=-20.0, token_count=10),
        candidate(chat(2), logprob=-20.0, token_count=20),
    ]

    prediction, _ = run(BestOfN(SIGNATURE, n=2), ScriptedEngine(texts))

    assert prediction.answer == "2"
    assert [score.value for score in prediction.choice.scores] == [-2.0, -1.0]


def test_scores_that_all_fail_raise() -> None:
    """No score is made up: without any there is no winner."""
    broken = CallableVerifier(lambda q, t: float("nan"))
    engine = ScriptedEngine([chat(1)])

    for module in (
        BestOfN(SIGNATURE, n=2),
        BestOfN(SIGNATURE, lambda i, p: p.nothing, n=2),
        BestOfN(SIGNATURE, verifier=broken, n=2),
        VerifierRerank(SIGNATURE, broken, n=2),
    ):
        with pytest.raises(ScoreError, match="no candidate has a score"):
            run(module, engine)


async def test_verifier_gets_readable_texts_and_the_models_engine() -> None:
    """SelfJudge judges the fields as text, with the engine of the LM, and its tokens count."""

    def script(prompt: Prompt, i: int) -> Scripted:
        if "Proposed solution" not in prompt.question:
            return [chat(1, "one"), chat(2, "two")][i]
        yes = 0.9 if "reasoning: two\n\nanswer: 2" in prompt.question else 0.1
        return candidate("Yes", top_logprobs={"Yes": yes, "No": 1 - yes}, token_count=1)

    engine = ScriptedEngine(script)
    module = VerifierRerank(SIGNATURE, SelfJudge(), n=2)

    with dspy.context(lm=ESampLM(engine), track_usage=True):
        prediction = await module.acall(question="q")

    assert prediction.answer == "2"
    used = prediction.get_lm_usage()["ttscale/scripted"]["completion_tokens"]
    assert used == len(chat(1, "one").split()) * 2 + 2


def test_verifier_that_draws_needs_an_esamp_lm() -> None:
    """On another LM SelfJudge has no engine, which is said."""
    with (
        dspy.context(lm=dspy.utils.DummyLM([{"reasoning": "r", "answer": "1"}] * 2)),
        pytest.raises(ScoreError, match="needs ESampLM"),
    ):
        VerifierRerank(SIGNATURE, SelfJudge(), n=2)(question="q")


def test_reward_leaves_no_trace() -> None:
    """What a reward asks a model is no demonstration for the program."""
    engine = ScriptedEngine([chat(1), chat(2)])
    judge = dspy.ChainOfThought("text -> answer")

    def reward(inputs: dict[str, Any], prediction: Any) -> float:
        return float(judge(text=prediction.answer).answer)

    module = BestOfN(SIGNATURE, reward, n=2)
    _, trace = run(module, engine)

    assert len(trace) == 1
    assert len(module.predictors()) == 1


def test_streaming_shows_no_losing_candidate() -> None:
    """Under `streamify` a module yields its prediction; candidates are not streamed."""
    stream = dspy.streamify(SelfConsistency(SIGNATURE, n=3), async_streaming=False)

    with dspy.context(lm=ESampLM(ScriptedEngine([chat(9), chat(7), chat(7)]))):
        parts = list(stream(question="q"))

    assert [part.answer for part in parts] == ["7"]


def test_settings_are_saved_and_loaded_wherever_the_module_is(tmp_path: Path) -> None:
    """A program within a program brings its settings back, also those of ESamp."""

    class Outer(dspy.Module):  # type: ignore[misc]
        def __init__(self, n: int, **settings: Any) -> None:
            super().__init__()
            self.vote = AdaptiveSelfConsistency(SIGNATURE, n, **settings)

    saved = Outer(20, batch=5, alpha=0.01, kind="number", esamp=ESamp(beta=0.5), temperature=0.7)
    saved.vote.inner.predict.demos = [dspy.Example(question="1+1", reasoning="r", answer="2")]
    saved.save(tmp_path / "program.json")

    loaded = Outer(4)
    loaded.load(tmp_path / "program.json")

    assert loaded.vote.settings == saved.vote.settings
    assert loaded.vote.settings.esamp == ESamp(beta=0.5)
    assert loaded.vote.inner.predict.demos[0]["answer"] == "2"
    with pytest.raises(InvalidInput, match="unknown setting 'colour'"):
        loaded.vote.saved.load_state({"colour": "red"})


def test_whole_program_is_saved_and_loaded(tmp_path: Path) -> None:
    """DSPy's pickled programs work, with the LM, its strategy-free engine and the settings."""
    engine = ScriptedEngine([chat(1)], model="pickled")
    module = SelfConsistency(SIGNATURE, n=3)
    module.set_lm(ESampLM(engine))

    module.save(tmp_path / "program", save_program=True)
    loaded = dspy.load(str(tmp_path / "program"), allow_pickle=True)

    assert loaded(question="q").answer == "1"
    assert engine.calls[0].n == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SelfConsistency(SIGNATURE, n=0), "n must be"),
        (lambda: SelfConsistency(SIGNATURE, kind="poem"), "kind must be"),
        (lambda: SelfConsistency(SIGNATURE, temperature=0.0), "temperature must be"),
        (lambda: SelfConsistency(SIGNATURE, esamp=0.5), "esamp must be"),  # type: ignore[arg-type]
        (lambda: AdaptiveSelfConsistency(SIGNATURE, batch=0), "batch must be"),
        (lambda: AdaptiveSelfConsistency(SIGNATURE, alpha=0.9), "alpha must be"),
        (lambda: BestOfN(SIGNATURE, max, verifier=likes("x")), "give one of"),
        (lambda: VerifierRerank(SIGNATURE, max), "verifier must have"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_are_refused(make: Any, message: str) -> None:
    """Settings are checked when a module is made."""
    with pytest.raises(InvalidInput, match=message):
        make()
