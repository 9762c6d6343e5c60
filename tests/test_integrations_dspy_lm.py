"""ESampLM: DSPy's engine contract, on a scripted engine."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import dspy
import pytest
from dspy import lm15
from dspy.utils.exceptions import (
    ContextWindowExceededError,
    LMInvalidRequestError,
    LMProviderError,
    LMServerError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
)

from ttscale import ESamp, Sampler
from ttscale.engines import ServerEngine
from ttscale.errors import EngineError, EngineStopped, InvalidInput
from ttscale.integrations.dspy import ESampLM
from ttscale.strategies import BestOfN, SelfConsistency
from ttscale.testing import Reply, Scripted, ScriptedEngine, ScriptedServer, candidate
from ttscale.types import ESampReport, Prompt, Samples
from ttscale.verifiers import CallableVerifier, SelfJudge


def chat(answer: object, reasoning: str = "so") -> str:
    """What a model writes in DSPy's chat format."""
    head = f"[[ ## reasoning ## ]]\n{reasoning}\n\n" if reasoning else ""
    return f"{head}[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]"


def ask(lm: ESampLM, question: str = "q", **config: Any) -> Any:
    """One prediction of a plain predictor with `lm`."""
    with dspy.context(lm=lm):
        return dspy.Predict("question -> answer")(question=question, config=config)


class BrokenEngine:
    """An engine that raises the given errors in turn, and then answers."""

    model = "broken"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def adraw(self, prompt: Prompt, n: int, sampler: Sampler, **_: Any) -> Samples:
        """Raise the next error."""
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return Samples(n, tuple(candidate(chat(1, ""), index=i) for i in range(n)))


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    """A cache in memory only, and empty: nothing reaches the user's home or another test."""
    dspy.configure_cache(enable_disk_cache=False)
    yield
    dspy.configure_cache(enable_disk_cache=False)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """DSPy waits before it tries again; the tests do not."""
    monkeypatch.setattr("dspy.clients.execution.time.sleep", lambda seconds: None)


def test_n_is_one_draw_of_n_samples() -> None:
    """Candidates of one call come from one draw, in order, and the prompt is paid for once."""
    engine = ScriptedEngine([chat(i, "") for i in range(5)])

    with dspy.context(track_usage=True):
        prediction = ask(ESampLM(engine), n=5)

    assert [call.n for call in engine.calls] == [5]
    assert prediction.completions.answer == ["0", "1", "2", "3", "4"]
    one = engine.calls[0].prompt
    prompt_tokens = sum(len(m.content.split()) for m in one.messages)
    usage = prediction.get_lm_usage()["ttscale/scripted"]
    assert usage["prompt_tokens"] == prompt_tokens
    assert usage["completion_tokens"] == 5 * len(chat(0, "").split())


async def test_concurrent_calls_keep_their_siblings_apart() -> None:
    """Three asynchronous calls of n = 4 are three draws of 4, each answering its own question."""
    engine = ScriptedEngine(lambda prompt, i: chat(f"{prompt.question.split()[5]}{i}", ""))
    predict = dspy.Predict("question -> answer")

    with dspy.context(lm=ESampLM(engine)):
        calls = [predict.acall(question=q, config={"n": 4}) for q in "abc"]
        answers = [p.completions.answer for p in await asyncio.gather(*calls)]

    assert [call.n for call in engine.calls] == [4, 4, 4]
    assert answers == [[f"{q}{i}" for i in range(4)] for q in "abc"]


def test_repeated_call_is_answered_from_the_cache_until_the_rollout_changes() -> None:
    """The same call draws once; a rollout id draws afresh, once."""
    engine = ScriptedEngine([chat("x")])
    lm = ESampLM(engine)

    for rollout in (None, None, 1, 1, 2):
        ask(lm, n=2, rollout_id=rollout)

    assert len(engine.calls) == 3


def test_cached_answers_cost_nothing_and_keep_their_facts() -> None:
    """A cache hit has no usage, and its history entry still tells about the answers."""
    engine = ScriptedEngine([candidate(chat("x"), logprob=-3.0)])
    lm = ESampLM(engine)
    ask(lm)

    with dspy.context(track_usage=True):
        prediction = ask(lm)

    assert prediction.get_lm_usage() == {}
    assert lm.history[-1]["ttscale"]["answers"][0]["logprob"] == -3.0


@pytest.mark.parametrize(
    "other",
    [
        {"esamp": ESamp(beta=0.5)},
        {"sampler": Sampler(min_p=0.1)},
        {"sampler": Sampler(fire_temperature=30.0)},
        {"sampler": Sampler(top_p=0.5)},
        {"strategy": SelfConsistency(n=3)},
        {"strategy": BestOfN(n=3, verifier=CallableVerifier(lambda q, t: 1.0))},
    ],
)
def test_every_setting_is_in_the_cache_key(other: dict[str, Any]) -> None:
    """LMs of one model that draw otherwise do not answer from each other's cache."""
    plain, changed = ScriptedEngine([chat("x")]), ScriptedEngine([chat("x")])

    for lm in (ESampLM(plain), ESampLM(changed, **other), ESampLM(changed, **other)):
        ask(lm)
        lm(lm15.Request(model=lm.model, messages=(lm15.Message.user("hello"),)))

    assert len(plain.calls) == len(changed.calls) == 2


def test_verifiers_that_look_alike_do_not_share_answers() -> None:
    """Two functions of one name are two verifiers, so the second is asked too."""
    engine = ScriptedEngine([chat("a"), chat("b")])
    likes = [lambda q, t, letter=letter: letter in t.split()[-4:] for letter in "ab"]

    answers = [
        ask(ESampLM(engine, strategy=BestOfN(n=2, verifier=CallableVerifier(fn)))).answer
        for fn in likes
    ]

    assert len(engine.calls) == 2
    assert answers == ["a", "b"]


def test_settings_reach_the_sampler() -> None:
    """What a call or the LM asks for is what samples are drawn with; the rest is the sampler's."""
    engine = ScriptedEngine([chat("x")])
    lm = ESampLM(engine, sampler=Sampler(temperature=0.4, min_p=0.05, max_tokens=99, seed=5))

    ask(lm)
    ask(lm, temperature=0.9, top_p=0.8, top_k=7, stop=["END"], seed=3, esamp=ESamp(beta=1.0))
    ask(ESampLM(engine, temperature=0.3, max_tokens=11))

    assert [call.sampler for call in engine.calls] == [
        Sampler(temperature=0.4, min_p=0.05, max_tokens=99, seed=5),
        Sampler(
            temperature=0.9,
            top_p=0.8,
            top_k=7,
            min_p=0.05,
            max_tokens=99,
            stop=("END",),
            seed=3,
            esamp=ESamp(beta=1.0),
        ),
        Sampler(temperature=0.3, max_tokens=11),
    ]


def test_rollouts_of_a_seeded_lm_have_seeds_of_their_own() -> None:
    """With a seed, each rollout draws otherwise, and the same one draws the same again."""
    engine = ScriptedEngine([chat("x")])
    lm = ESampLM(engine, sampler=Sampler(seed=1), cache=False)

    for rollout in (None, 1, 2, 1):
        ask(lm, rollout_id=rollout)

    seeds = [call.sampler.seed for call in engine.calls]
    assert seeds[0] == 1
    assert seeds[1] == seeds[3]
    assert len(set(seeds)) == 3


def test_conversation_is_passed_on_with_its_roles() -> None:
    """System, demonstrations and question arrive as turns of their own."""
    engine = ScriptedEngine([chat("x", "")])
    predict = dspy.Predict("question -> answer")
    predict.demos = [dspy.Example(question="1+1", answer="2")]

    with dspy.context(lm=ESampLM(engine)):
        predict(question="2+2")

    turns = engine.calls[0].prompt.messages
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert "1+1" in turns[1].content
    assert "2+2" in turns[3].content


def test_typed_request_returns_a_typed_response() -> None:
    """`lm(Request)` gives one Response, drawn with the LM's own ESamp settings."""
    engine = ScriptedEngine([candidate("hello", finish_reason="length")])
    lm = ESampLM(engine, esamp=ESamp(beta=0.7))
    message = lm15.Message.user("hi")
    config = lm15.Config(temperature=0.2)

    response = lm(lm15.Request(model=lm.model, messages=(message,), config=config))

    assert (response.text, response.finish_reason) == ("hello", "length")
    assert engine.calls[0].sampler == Sampler(temperature=0.2, esamp=ESamp(beta=0.7))


def tool_request(model: str) -> lm15.Request:
    """A request that offers a tool."""
    tool = lm15.FunctionTool(name="f", description="d", parameters={"type": "object"})
    return lm15.Request(model=model, messages=(lm15.Message.user("q"),), tools=(tool,))


def image_request(model: str) -> lm15.Request:
    """A request that shows an image."""
    parts = (lm15.TextPart("what?"), lm15.ImagePart(url="https://example.org/a.png"))
    return lm15.Request(model=model, messages=(lm15.Message(role="user", parts=parts),))


def schema_request(model: str) -> lm15.Request:
    """A request for JSON."""
    config = lm15.Config(response_format={"type": "json_object"})
    return lm15.Request(model=model, messages=(lm15.Message.user("q"),), config=config)


def logprobs_request(model: str) -> lm15.Request:
    """A request for log-probabilities of each token."""
    config = lm15.Config(logprobs=0)
    return lm15.Request(model=model, messages=(lm15.Message.user("q"),), config=config)


@pytest.mark.parametrize(
    ("request_for", "feature"),
    [
        (tool_request, "tools"),
        (image_request, "image parts"),
        (schema_request, "response_format"),
        (logprobs_request, "logprobs"),
    ],
)
def test_what_samplers_cannot_do_is_refused(request_for: Any, feature: str) -> None:
    """Tools, images, schemas and token scores are refused by name and nothing is drawn."""
    engine = ScriptedEngine(["x"])
    lm = ESampLM(engine)

    with pytest.raises(LMUnsupportedFeatureError, match=f"no {feature}"):
        lm(request_for(lm.model))

    assert engine.calls == []


def test_unknown_setting_in_the_metadata_is_refused() -> None:
    """A misspelt setting, or another strategy, in a call is an error and not ignored."""
    lm = ESampLM(ScriptedEngine([chat("x")]))

    with pytest.raises(LMInvalidRequestError, match="unknown ttscale setting 'betta'"):
        ask(lm, metadata={"ttscale": {"betta": 1}})
    with pytest.raises(LMInvalidRequestError, match="unknown key esamp_betta"):
        ask(lm, metadata={"ttscale": {"esamp": {"betta": 1}}})
    with pytest.raises(LMInvalidRequestError, match=r"lm\.copy"):
        ask(lm, metadata={"ttscale": {"strategy": "best-of-n"}})


def test_own_metadata_passes_by() -> None:
    """Metadata of the caller's own is in the history and does not disturb."""
    lm = ESampLM(ScriptedEngine([chat("x")]), metadata={"team": "blue"})

    ask(lm, metadata={"run": 7})

    metadata = lm.history[-1]["kwargs"]["metadata"]
    assert (metadata["team"], metadata["run"]) == ("blue", 7)


def test_capabilities_are_those_of_plain_text() -> None:
    """DSPy is told that there are no tools, schemas or native reasoning."""
    lm = ESampLM(ScriptedEngine(["x"]))

    assert not lm.supports_function_calling
    assert not lm.supports_response_schema
    assert not lm.supports_reasoning
    assert lm.supported_params >= {"temperature", "max_tokens", "stop", "seed"}


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (InvalidInput("top_p must be in (0, 1]"), LMInvalidRequestError),
        (
            InvalidInput("prompt is longer than the maximum model length"),
            ContextWindowExceededError,
        ),
        (EngineStopped("the engine has been closed"), LMProviderError),
        (KeyError("bug"), LMUnexpectedError),
    ],
)
def test_lasting_errors_are_not_retried(error: Exception, raised: type[Exception]) -> None:
    """A refused request, a closed engine and a bug are reported at once, as DSPy's errors."""
    engine = BrokenEngine(error)

    with pytest.raises(raised) as caught:
        ask(ESampLM(engine))

    assert engine.asked == 1
    assert type(caught.value) is raised


@pytest.mark.usefixtures("no_waiting")
def test_failed_draw_is_retried() -> None:
    """DSPy tries a failed draw again, as often as `num_retries` says."""
    engine = BrokenEngine(EngineError("one"), EngineError("two"))
    hopeless = BrokenEngine(*[EngineError("down")] * 9)

    assert ask(ESampLM(engine, num_retries=2), n=2).completions.answer == ["1", "1"]
    with pytest.raises(LMServerError, match="down"):
        ask(ESampLM(hopeless, num_retries=1))

    assert (engine.asked, hopeless.asked) == (3, 2)


def test_failed_samples_are_drawn_again() -> None:
    """When 2 of 3 samples come back, only the missing one is drawn again."""
    script: Iterator[Scripted] = iter([chat("a"), RuntimeError("lost"), chat("b"), chat("c")])
    engine = ScriptedEngine(lambda prompt, i: next(script))

    prediction = ask(ESampLM(engine), n=3)

    assert [call.n for call in engine.calls] == [3, 1]
    assert prediction.completions.answer == ["a", "b", "c"]


@pytest.mark.usefixtures("no_waiting")
def test_draw_without_any_sample_is_a_failed_draw() -> None:
    """When all samples fail the reason is told."""
    engine = ScriptedEngine([RuntimeError("out of memory")])

    with pytest.raises(LMServerError, match="out of memory"):
        ask(ESampLM(engine, num_retries=1))

    assert len(engine.calls) == 2


async def test_streaming_replays_the_finished_answer() -> None:
    """A listener gets the answer in pieces, from one draw, and the prediction at the end."""
    engine = ScriptedEngine([chat("to be or not to be that is the question", "")])
    predict = dspy.Predict("question -> answer")
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    stream = dspy.streamify(predict, stream_listeners=[listener])

    with dspy.context(lm=ESampLM(engine, cache=False)):
        parts = [part async for part in stream(question="q")]

    chunks = [part.chunk for part in parts if isinstance(part, dspy.streaming.StreamResponse)]
    assert len(chunks) > 3
    assert "".join(chunks).strip() == "to be or not to be that is the question"
    assert parts[-1].answer == "to be or not to be that is the question"
    assert len(engine.calls) == 1


def test_synchronous_streaming_works_too() -> None:
    """The synchronous stream of a program has the same pieces."""
    predict = dspy.Predict("question -> answer")
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    stream = dspy.streamify(predict, stream_listeners=[listener], async_streaming=False)

    with dspy.context(lm=ESampLM(ScriptedEngine([chat("one two three four", "")]), cache=False)):
        parts = list(stream(question="q"))

    assert parts[-1].answer == "one two three four"
    assert len(parts) > 2


def test_strategy_selects_the_answer() -> None:
    """With a strategy one answer stands for all samples, and its usage is that of all."""
    texts = [chat("0.5", "a"), chat("9", "b"), chat("1/2", "c")]
    engine = ScriptedEngine([candidate(text, token_count=10) for text in texts])
    lm = ESampLM(engine, strategy=SelfConsistency(n=3))

    with dspy.context(track_usage=True):
        prediction = ask(lm)

    assert prediction.answer == "0.5"
    assert [call.n for call in engine.calls] == [3]
    assert prediction.get_lm_usage()["ttscale/scripted"]["completion_tokens"] == 30
    told = lm.history[-1]["ttscale"]
    assert told["answers"][0]["votes"][0][1:] == [2, 2.0]
    assert told["settings"]["strategy"]["n"] == 3


def test_strategy_reads_the_answer_field_of_words() -> None:
    """Field marks are no obstacle: votes for a word are counted, and the text comes unchanged."""
    engine = ScriptedEngine([chat("Lyon"), chat("Paris"), chat("Paris")])

    text = ESampLM(engine, strategy=SelfConsistency(n=3))("capital?")[0]

    assert text == chat("Paris")


def test_n_asks_a_strategy_for_n_answers() -> None:
    """Each answer is a selection of its own, with a seed of its own when there is one."""
    engine = ScriptedEngine([chat("x")])
    lm = ESampLM(engine, strategy=SelfConsistency(n=4, sampler=Sampler(seed=10)))

    assert len(ask(lm, n=3).completions) == 3
    assert [call.n for call in engine.calls] == [4, 4, 4]
    assert [call.sampler.seed for call in engine.calls] == [10, 11, 12]


def test_abstaining_strategy_gives_its_first_sample_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a winner the first sample is the answer, with a warning and a reason on record."""
    engine = ScriptedEngine(["Hmm, let me think about that for a while, shall we?", "Well."])
    lm = ESampLM(engine, strategy=SelfConsistency(n=2, kind="number"))

    with caplog.at_level(logging.WARNING):
        text = lm("q")[0]

    assert text.startswith("Hmm")
    assert "selected nothing" in caplog.text
    assert "states an answer" in lm.history[-1]["ttscale"]["answers"][0]["reason"]


def test_history_tells_what_esamp_did() -> None:
    """Settings and ESamp's report are in the history, beside what DSPy records itself."""
    engine = ScriptedEngine([chat("x")], esamp=ESampReport(rows_mixed=12, fallbacks={"nan": 1}))
    lm = ESampLM(engine, esamp=ESamp(beta=0.5))

    ask(lm, n=2)

    entry = lm.history[-1]
    assert entry["ttscale"]["settings"]["esamp"]["beta"] == 0.5
    assert [a["esamp"]["rows_mixed"] for a in entry["ttscale"]["answers"]] == [12, 12]
    assert entry["response_model"] == "scripted"


def test_copies_share_the_engine() -> None:
    """Deep copies, `copy` and pickles draw from the same ttscale engine."""
    engine = ScriptedEngine([chat("x")])
    lm = ESampLM(engine, strategy=SelfConsistency(n=2))
    program = dspy.ChainOfThought("question -> answer")
    program.set_lm(lm)

    copies = [copy.deepcopy(lm), lm.copy(rollout_id=1), cloudpickle.loads(cloudpickle.dumps(lm))]
    copies.append(program.deepcopy().get_lm())

    assert all(other.engine.engine is engine for other in copies)
    assert all(other.engine.strategy == SelfConsistency(n=2) for other in copies)


def test_copy_changes_settings_and_leaves_the_original() -> None:
    """`copy` takes what the constructor takes, and keeps what it is not given."""
    engine, other = ScriptedEngine([chat("x")]), ScriptedEngine([chat("y")], model="other")
    lm = ESampLM(engine, esamp=ESamp(beta=0.5), temperature=0.7)

    ask(lm.copy(esamp=None))
    ask(lm.copy(sampler=Sampler(max_tokens=9), temperature=0.2))
    ask(lm.copy(strategy=SelfConsistency(n=3)))
    ask(lm.copy(engine=other))
    ask(lm)

    samplers = [call.sampler for call in engine.calls]
    assert samplers[0] == Sampler(temperature=0.7)
    assert samplers[1] == Sampler(temperature=0.2, max_tokens=9)
    assert engine.calls[2].n == 3
    assert samplers[3] == Sampler(temperature=0.7, esamp=ESamp(beta=0.5))
    assert other.calls[0].sampler == Sampler(temperature=0.7, esamp=ESamp(beta=0.5))


def test_saved_program_brings_its_lm_back(tmp_path: Path) -> None:
    """Engine, strategy, sampler and request settings are saved and loaded."""
    engine = ScriptedEngine([chat("x")], model="saved")
    strategy = BestOfN(n=3, verifier=SelfJudge(concurrency=2), sampler=Sampler(min_p=0.1))
    program = dspy.Predict("question -> answer")
    program.set_lm(ESampLM(engine, strategy=strategy, temperature=0.6, esamp=ESamp(beta=0.3)))
    program.save(tmp_path / "program.json")
    loaded = dspy.Predict("question -> answer")

    with pytest.raises(ValueError, match="allow_unsafe_lm_state"):
        loaded.load(tmp_path / "program.json")
    loaded.load(tmp_path / "program.json", allow_unsafe_lm_state=True)

    lm = loaded.get_lm()
    assert lm.engine.engine is engine
    assert lm.engine.strategy == BestOfN(n=3, verifier=SelfJudge(concurrency=2))
    assert lm.engine.sampler == Sampler(min_p=0.1, esamp=ESamp(beta=0.3))
    assert lm.kwargs["temperature"] == 0.6
    assert '"ttscale.integrations.dspy.ESampLM"' in (tmp_path / "program.json").read_text()


def test_program_cannot_be_loaded_without_its_engine() -> None:
    """A saved engine that is not in this process is named."""
    state = ESampLM(ScriptedEngine(["x"], model="gone-tomorrow")).dump_state()

    with pytest.raises(InvalidInput, match="gone-tomorrow"):
        ESampLM.load_state(state)


def test_local_engine_is_started_once_for_a_loaded_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a live engine of that model one LocalEngine is started, for every load."""
    started = []

    class LocalEngine(ScriptedEngine):
        def __init__(self, model: str) -> None:
            super().__init__([chat("x", "")], model=model)
            started.append(model)

    LocalEngine.__module__, LocalEngine.__qualname__ = "ttscale.worker.engine", "LocalEngine"
    monkeypatch.setattr("ttscale.worker.engine.LocalEngine", LocalEngine)
    program = dspy.Predict("question -> answer")
    program.set_lm(ESampLM(LocalEngine("loaded-later")))
    program.save(tmp_path / "program.json")
    program.set_lm(None)
    gc.collect()

    for _ in range(2):
        program.load(tmp_path / "program.json", allow_unsafe_lm_state=True)

    assert started == ["loaded-later"] * 2
    assert program(question="q").answer == "x"


def test_function_in_a_strategy_cannot_be_saved() -> None:
    """What could not be loaded is refused when it is saved."""
    verifier = CallableVerifier(lambda q, t: 1.0)
    lm = ESampLM(ScriptedEngine(["x"]), strategy=BestOfN(n=2, verifier=verifier))

    with pytest.raises(InvalidInput, match="cannot be saved"):
        lm.dump_state()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engine": "smollm2"}, "engine must be a ttscale engine"),
        ({"strategy": "best-of-n"}, "strategy must be one of"),
        ({"sampler": 0.7}, "sampler must be a ttscale.Sampler"),
        ({"esamp": 0.25}, "esamp must be a ttscale.ESamp"),
        ({"api_key": "secret"}, "api_key"),
    ],
)
def test_wrong_settings_are_refused_at_the_door(wrong: dict[str, Any], message: str) -> None:
    """Settings of the wrong kind, and connection settings, raise when the LM is made."""
    with pytest.raises(ValueError, match=message):
        ESampLM(**{"engine": ScriptedEngine(["x"]), **wrong})


def test_n_at_temperature_0_is_refused_with_advice() -> None:
    """A typed refusal says that the temperature must be raised."""
    lm = ESampLM(ScriptedEngine(["x"]), temperature=0.0)

    with pytest.raises(LMInvalidRequestError, match="raise the temperature"):
        lm("q", n=2)


@pytest.mark.usefixtures("no_waiting")
async def test_server_engine_works_like_a_local_one() -> None:
    """Over HTTP n candidates are one request as well, and DSPy retries what the engine does not."""
    answers = [chat(i, "") for i in range(3)]

    with (
        ScriptedServer(answers) as server,
        ServerEngine(server.base_url, retries=0) as engine,
        dspy.context(lm=ESampLM(engine, esamp=ESamp(beta=0.5))),
    ):
        predict = dspy.Predict("question -> answer")
        sync = predict(question="a", config={"n": 3, "stop": ["END"]})
        later = await predict.acall(question="b", config={"n": 3})
        bodies = [post.body for post in server.posts if post.body.get("n") == 3]
        server.first.append(Reply(status=503))
        again = predict(question="c")

    assert sync.completions.answer == later.completions.answer == ["0", "1", "2"]
    assert len(bodies) == 2
    assert bodies[0]["stop"] == ["END"]
    assert again.answer == "0"


# MultiChainComparison of DSPy 3.4 uses an argument that DSPy itself deprecates.
@pytest.mark.filterwarnings("ignore:The 'prefix' argument:DeprecationWarning")
def test_builtin_strategies_of_dspy_work_on_top() -> None:
    """majority, MultiChainComparison, BestOfN and Refine of DSPy take an ESampLM."""
    engine = ScriptedEngine([chat("5", "a"), chat("6", "b"), chat("6", "c")])
    cot = dspy.ChainOfThought("question -> answer")
    texts = iter([chat("5"), chat("6"), chat("7")])
    dealing = ScriptedEngine(lambda prompt, i: next(texts))
    comparing = ScriptedEngine(["[[ ## rationale ## ]]\nr\n\n" + chat("6", "")])

    with dspy.context(lm=ESampLM(engine)):
        candidates = cot(question="q", config={"n": 3, "temperature": 1.0})
        assert dspy.majority(candidates).answer == "6"
    with dspy.context(lm=ESampLM(comparing, model="ttscale/comparing")):
        compare = dspy.MultiChainComparison("question -> answer", M=3)
        assert compare(list(candidates.completions), question="q").answer == "6"
    with dspy.context(lm=ESampLM(dealing, model="ttscale/dealing")):
        best = dspy.BestOfN(cot, N=3, reward_fn=lambda a, p: float(p.answer), threshold=6.0)
        assert best(question="q").answer == "6"
        refine = dspy.Refine(cot, N=2, reward_fn=lambda a, p: float(p.answer), threshold=7.0)
        assert refine(question="other").answer == "7"

    assert [call.n for call in engine.calls] == [3]
    assert len(dealing.calls) == 3


def test_import_needs_neither_torch_nor_vllm() -> None:
    """The adapter is importable, warning-free, without loading an engine's packages."""
    code = (
        "import sys, ttscale.integrations.dspy; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'vllm', 'litellm')))"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", code], check=False
    )

    assert done.returncode == 0
