"""`ChatESamp`: a chat model of LangChain that answers with the winner of many samples."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.tool import invalid_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils import convert_to_secret_str, from_env, secret_from_env
from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import Field, SecretStr, model_validator

import ttscale
from ttscale import _sync
from ttscale.engines import ServerEngine
from ttscale.errors import InvalidInput
from ttscale.integrations._langchain_client import make_clients
from ttscale.integrations._langchain_draw import ChatEngine, Wanted, beyond_openai
from ttscale.integrations._langchain_embedded import EMBEDDED
from ttscale.integrations._langchain_errors import as_langchain
from ttscale.integrations._langchain_local import ask_engine, wire_form, with_strict_calls
from ttscale.integrations._langchain_pick import Asked
from ttscale.integrations._langchain_run import answer, last_chunk, progress
from ttscale.integrations._langchain_strategy import SETTINGS, to_strategy, with_settings
from ttscale.sampling import Sampler
from ttscale.strategies import Strategy
from ttscale.strategies.self_consistency import SelfConsistency

NO_KEY = "EMPTY"  # what vLLM's own examples send when no key is wanted
DEFAULT_URL = "http://localhost:8000/v1"
SAMPLER_SETTINGS = ("temperature", "top_p", "max_tokens", "stop", "seed")


class ChatESamp(BaseChatOpenAI):
    """Draws several samples of a chat, lets a strategy choose, and answers with the winner.

    It asks an OpenAI-compatible server, or with `engine` an engine in this process. With neither
    model nor address nor engine it asks the embedded model, which the first call starts in this
    process, once for all. ESamp needs a vLLM server with the ttscale plugin; a server without it is
    refused, unless `esamp=False`.

    Samples are compared by the answers they state; calls of tools by name and arguments; JSON by
    its content. Samples with invalid calls or JSON lose. When the strategy cannot choose (none
    of the samples states an answer, as with open questions) the likeliest sample is given, and
    `response_metadata["ttscale"]["reason"]` says why. With temperature 0 one sample is drawn.

    `temperature`, `top_p`, `max_tokens`, `stop` and `seed` win over the strategy's sampler.

    Attributes:
        strategy: A strategy of `ttscale.strategies`, or its name.
        n_candidates: Number of samples; None is the strategy's own, and 8 with a name.
        esamp: Strength (beta) or settings of ESamp, or False for plain sampling; None is the
            strategy's own, and 0.25 with a name.
        verifier: What scores samples, for strategies that use one; also a function
            (question, text) -> score from 0 to 1.
        return_candidates: Whether the other samples follow as further generations.
        engine: An engine in this process, in place of a server. It takes `response_format`, and
            tools where one must be called (`tool_choice`).

    Raises:
        ESampRequestError: A setting or request is refused.
        ESampConnectionError: The engine is closed, or no server answers.
        ESampAPIError: The engine failed.
    """

    model_name: str = Field(default="", alias="model")
    ttscale_api_key: SecretStr | None = Field(
        alias="api_key", default_factory=secret_from_env("TTSCALE_API_KEY", default=None)
    )
    ttscale_api_base: str | None = Field(
        alias="base_url", default_factory=from_env("TTSCALE_API_BASE", default=None)
    )
    openai_api_key: SecretStr | None = None
    openai_api_base: str | None = None
    openai_organization: str | None = None
    openai_proxy: str | None = None
    use_responses_api: bool | None = False
    strategy: Any = SelfConsistency.name
    n_candidates: int | None = None
    esamp: Any = None
    verifier: Any = Field(default=None, exclude=True)
    return_candidates: bool = False
    engine: Any = Field(default=None, exclude=True)
    _esamp_found: bool = False

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """Make the clients, from this model's own settings alone."""
        with as_langchain():
            self._strategy({})
            if not self.model_name and not self.ttscale_api_base:
                self.engine = self.engine or EMBEDDED
            if self.engine is not None:
                self.model_name = self.model_name or self.engine.model
                return self
            if not self.model_name:
                raise InvalidInput(
                    "model must be given for a server; with neither model nor base_url the "
                    "embedded model answers, in this process"
                )
        self.ttscale_api_base = self.ttscale_api_base or DEFAULT_URL
        key = self.ttscale_api_key or convert_to_secret_str(NO_KEY)
        settings: dict[str, Any] = {
            "api_key": key.get_secret_value(),
            "base_url": self.ttscale_api_base,
            "timeout": self.request_timeout,
            "default_headers": self.default_headers,
            "default_query": self.default_query,
        }
        if self.max_retries is not None:
            settings["max_retries"] = self.max_retries
        own = (self.http_client, self.http_async_client)
        self.root_client, self.root_async_client = make_clients(settings, *own)
        self.client = self.root_client.chat.completions
        self.async_client = self.root_async_client.chat.completions
        return self

    @model_validator(mode="after")
    def _set_ttscale_version(self) -> Self:
        self._add_version("ttscale", ttscale.__version__)
        return self

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The environment variable of the key."""
        return {"ttscale_api_key": "TTSCALE_API_KEY"}

    @property
    def _llm_type(self) -> str:
        return "ttscale-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What answers depend on; LangChain's cache tells models apart by it."""
        own = {"strategy": repr(self._strategy({})), "return_candidates": self.return_candidates}
        return {**super()._identifying_params, **own}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "ttscale"
        return params

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The body of a request; the form of the answer goes where the SDK does not parse it.

        The SDK would fail the whole answer for one sample that does not fit.
        """
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        payload["stream"] = False
        payload.pop("stream_options", None)
        form = payload.pop("response_format", None)
        if form is not None:
            extra = payload.get("extra_body") or {}
            payload["extra_body"] = {**extra, "response_format": wire_form(form)}
        return payload

    def _create_chat_result(
        self, response: Any, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        """The generations; one that LangChain cannot read does not lose the others."""
        content = response if isinstance(response, dict) else response.model_dump(warnings=False)
        choices = content.get("choices")
        if not choices:
            return super()._create_chat_result(content, generation_info)
        results = [self._one_choice(content, one, generation_info) for one in choices]
        generations = [generation for result in results for generation in result.generations]
        return ChatResult(generations=generations, llm_output=results[0].llm_output)

    def _one_choice(
        self, content: dict[str, Any], choice: dict[str, Any], info: dict[str, Any] | None
    ) -> ChatResult:
        try:
            return super()._create_chat_result({**content, "choices": [choice]}, dict(info or {}))
        except (ValueError, TypeError) as error:
            unread = {**choice, "message": {"role": "assistant", "content": ""}}
            made = super()._create_chat_result({**content, "choices": [unread]}, dict(info or {}))
            bad = invalid_tool_call(args=str(choice.get("message")), error=str(error))
            first = made.generations[0]
            message = AIMessage(content="", invalid_tool_calls=[bad])
            made.generations[0] = ChatGeneration(
                message=message, generation_info=first.generation_info
            )
            return made

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - callbacks are told once
        **kwargs: Any,
    ) -> ChatResult:
        return _sync.run(self._answer(messages, stop, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - as above
        **kwargs: Any,
    ) -> ChatResult:
        return await _sync.on_background_loop(self._answer(messages, stop, kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        *,
        stream_usage: bool | None = None,  # noqa: ARG002 - the usage always comes
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield self._progress(kwargs)
        chunk = last_chunk(self._generate(messages, stop, **kwargs))
        if run_manager:
            run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        stream_usage: bool | None = None,  # noqa: ARG002 - the usage always comes
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        yield self._progress(kwargs)
        chunk = last_chunk(await self._agenerate(messages, stop, **kwargs))
        if run_manager:
            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        yield chunk

    def _progress(self, kwargs: Mapping[str, Any]) -> ChatGenerationChunk:
        with as_langchain():
            strategy = self._strategy(kwargs)
        return progress(strategy, getattr(strategy, "n", None))

    def _strategy(self, kwargs: Mapping[str, Any]) -> Strategy[Any]:
        """The strategy of one call, whose settings win over the model's."""
        own = {name: getattr(self, name) for name in SETTINGS}
        given = {name: kwargs[name] for name in SETTINGS if name in kwargs}
        chosen = {**own, **given}
        return to_strategy(
            chosen["strategy"], chosen["n_candidates"], chosen["esamp"], chosen["verifier"]
        )

    async def _answer(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> ChatResult:
        """Run the strategy, always on the one loop that the client's connections belong to."""
        passed = {k: v for k, v in kwargs.items() if k not in (*SETTINGS, "stream", "n")}

        async def request(wanted: Wanted) -> ChatResult:
            given = passed if wanted.own else {}
            if wanted.own and left:
                wanted = wanted.with_settings(left)
            if self.engine is not None:
                return await ask_engine(self.engine, self._with_shown(wanted, given), given)
            if wanted.sampler.esamp is not None or wanted.sampler.fire_temperature is not None:
                await self._require_esamp(wanted.sampler)
                given = with_strict_calls(given)
            begun = [AIMessage(wanted.prefix)] if wanted.prefix else []
            call = {**given, **self._fields(wanted, given)}
            return await super(ChatESamp, self)._agenerate([*wanted.messages, *begun], **call)

        with as_langchain():
            settings = self._own_settings(stop, passed)
            seed = settings.get("seed")
            strategy, left = with_settings(self._strategy(kwargs), settings)
            goes_on = self.engine is None or bool(getattr(self.engine, "continues_prefix", False))
            name = str(passed.get("model", self.model_name))
            chat = ChatEngine(messages, request, name, continues_prefix=goes_on)
            asked = Asked.of(passed)
            shown = bool(passed.get("logprobs", self.logprobs))
            keep = self.return_candidates
            return await answer(strategy, chat, asked, seed=seed, keep_all=keep, logprobs=shown)

    def _own_settings(self, stop: list[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the call, or else the model, says of the sampler's settings."""
        said = {**self._default_params, **given, **({} if stop is None else {"stop": stop})}
        settings = {k: said[k] for k in SAMPLER_SETTINGS if said.get(k) is not None}
        if "stop" in settings:
            words = settings["stop"]
            settings["stop"] = (words,) if isinstance(words, str) else tuple(words)
        return settings

    def _with_shown(self, wanted: Wanted, given: Mapping[str, Any]) -> Wanted:
        """The same with the log-probabilities that the caller wants to see."""
        shown = given.get("top_logprobs", self.top_logprobs if wanted.own else None) or 0
        most = max(shown, wanted.sampler.top_logprobs)
        return replace(wanted, sampler=replace(wanted.sampler, top_logprobs=most))

    def _fields(self, wanted: Wanted, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request to the server; also those that must not be the model's own."""
        sampler = self._with_shown(wanted, given).sampler
        fields: dict[str, Any] = {
            "n": wanted.n,
            "temperature": sampler.temperature,
            "top_p": sampler.top_p,
            "max_tokens": sampler.max_tokens,
            "logprobs": True,
            "top_logprobs": sampler.likeliest,
        }
        if sampler.seed is not None or self.seed is not None:
            fields["seed"] = sampler.seed
        if sampler.stop or self.stop:
            fields["stop"] = list(sampler.stop) or None
        extra = given.get("extra_body", self.extra_body if wanted.own else None) or {}
        beyond = beyond_openai(wanted)
        xargs = {**beyond.get("vllm_xargs", {}), **extra.get("vllm_xargs", {})}
        fields["extra_body"] = {**beyond, **extra, **({"vllm_xargs": xargs} if xargs else {})}
        return fields

    async def _require_esamp(self, sampler: Sampler) -> None:
        """Refuse a server that would ignore ESamp; asked once."""
        if self._esamp_found:
            return
        key = self.ttscale_api_key
        url = self.ttscale_api_base or DEFAULT_URL
        async with ServerEngine(url, self.model_name, api_key=key) as server:
            await server.acheck(sampler)
        self._esamp_found = True
