"""`ESampLLM`, a plain text model, and `ttscale_vote`, which makes any chat model vote."""

from __future__ import annotations

from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LLM, BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from pydantic import Field, model_validator

from ttscale import _sync
from ttscale._concurrent import gather
from ttscale.engines import Engine
from ttscale.errors import EngineError
from ttscale.integrations._langchain_draw import ChatEngine, Wanted
from ttscale.integrations._langchain_embedded import EMBEDDED
from ttscale.integrations._langchain_errors import as_langchain
from ttscale.integrations._langchain_pick import Asked
from ttscale.integrations._langchain_run import answer
from ttscale.integrations._langchain_strategy import to_strategy
from ttscale.strategies import Strategy, arun
from ttscale.strategies.select import best_member
from ttscale.strategies.self_consistency import SelfConsistency
from ttscale.types import Prompt

VOTE_CONCURRENCY = 16


class ESampLLM(LLM):
    """A plain text model over an engine: `prompt | ESampLLM(engine=engine) | parser`.

    Attributes:
        engine: A `LocalEngine`, a `ServerEngine` or any other engine; by default the embedded
            model's, which the first call starts in this process, once for all.
        strategy: A strategy of `ttscale.strategies`, or its name.
        n_candidates: As for `ChatESamp`; so are `esamp` and `verifier`.
        raw: Whether the prompt is continued as it is, without the model's chat template.

    Raises:
        ESampRequestError: A setting or request is refused.
        ESampConnectionError: The engine is closed or gone.
        ESampAPIError: No sample came back.
    """

    engine: Any = Field(default_factory=lambda: EMBEDDED, exclude=True)
    strategy: Any = SelfConsistency.name
    n_candidates: int | None = None
    esamp: Any = None
    verifier: Any = Field(default=None, exclude=True)
    raw: bool = False

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        with as_langchain():
            self._made()
        return self

    @property
    def _llm_type(self) -> str:
        return "ttscale-llm"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        engine: Engine = self.engine
        return {"model_name": engine.model, "strategy": repr(self._made()), "raw": self.raw}

    def _made(self) -> Strategy[Any]:
        return to_strategy(self.strategy, self.n_candidates, self.esamp, self.verifier)

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's contract
        **kwargs: Any,
    ) -> str:
        return _sync.run(self._answer(prompt, stop, kwargs))

    async def _acall(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - as above
        **kwargs: Any,
    ) -> str:
        return await self._answer(prompt, stop, kwargs)

    async def _answer(self, prompt: str, stop: list[str] | None, kwargs: dict[str, Any]) -> str:
        with as_langchain():
            strategy = to_strategy(
                kwargs.get("strategy", self.strategy),
                kwargs.get("n_candidates", self.n_candidates),
                kwargs.get("esamp", self.esamp),
                kwargs.get("verifier", self.verifier),
            )
            asked = Prompt.raw(prompt) if self.raw else Prompt.of(prompt)
            outcome = await arun(strategy, self.engine, asked)
            found = outcome.candidates
            if not found:
                raise EngineError(outcome.reason)
            likeliest = best_member(range(len(found)), found, [None] * len(found))
            chosen = outcome.candidate or found[likeliest]
        return _cut(chosen.text, stop)


def _cut(text: str, stop: list[str] | None) -> str:
    """The text before the first of the words at which it should end."""
    places = [place for word in stop or () if (place := text.find(word)) >= 0]
    return text[: min(places, default=len(text))]


def ttscale_vote(
    model: BaseChatModel | Runnable[LanguageModelInput, BaseMessage],
    n_candidates: int | None = None,
    *,
    strategy: object = SelfConsistency.name,
    verifier: object = None,
    concurrency: int = VOTE_CONCURRENCY,
) -> Runnable[LanguageModelInput, BaseMessage]:
    """Let a strategy choose among samples of any chat model; no vLLM and no ESamp needed.

    The model is asked once for each sample, with its own settings, so its temperature must be
    above 0. With a strategy by name nothing but its selection is used. Bind tools to the model
    before; samples are then compared by their calls.

    Args:
        model: A chat model, with or without tools bound.
        n_candidates: Number of samples; None is the strategy's own, and 8 with a name.
        strategy: A strategy of `ttscale.strategies`, or its name.
        verifier: What scores the samples, for strategies that use one.
        concurrency: Requests that run at the same time.

    Raises:
        InvalidInput: A setting is refused.
    """
    chosen = to_strategy(strategy, n_candidates, False, verifier)
    bound = getattr(model, "kwargs", {})
    name = str(getattr(model, "model_name", None) or getattr(model, "model", None) or "model")

    async def vote(messages: LanguageModelInput, config: RunnableConfig) -> BaseMessage:
        async def request(wanted: Wanted) -> ChatResult:
            jobs = [model.ainvoke(list(wanted.messages), config) for _ in range(wanted.n)]
            messages = await gather(jobs, concurrency)
            return ChatResult(generations=[_generation(message) for message in messages])

        with as_langchain():
            engine = ChatEngine(_messages(messages), request, name)
            asked = Asked.of(bound)
            result = await answer(chosen, engine, asked)
        return result.generations[0].message

    def vote_in_background(messages: LanguageModelInput, config: RunnableConfig) -> BaseMessage:
        return _sync.run(vote(messages, config))

    return RunnableLambda(vote_in_background, vote, name="ttscale_vote")


def _messages(given: LanguageModelInput) -> list[BaseMessage]:
    value = StringPromptValue(text=given) if isinstance(given, str) else given
    return value.to_messages() if isinstance(value, PromptValue) else convert_to_messages(value)


def _generation(message: BaseMessage) -> ChatGeneration:
    info = {
        k: message.response_metadata[k]
        for k in ("finish_reason", "logprobs")
        if k in message.response_metadata
    }
    made = message if isinstance(message, AIMessage) else AIMessage(content=message.content)
    return ChatGeneration(message=made, generation_info=info)
