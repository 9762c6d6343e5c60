"""Between LangChain's messages and ttscale's samples."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, ChatResult

from ttscale.engines import CandidateHook, Engine
from ttscale.errors import EngineError, InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies.messages import places_of
from ttscale.types import ROLES, Candidate, Message, Prompt, Samples, Usage, confidence

MEDIA = frozenset({"audio", "file", "image", "image_url", "input_audio", "video"})
_ROLE_OF = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


@dataclass(frozen=True, slots=True)
class Drawn:
    """One sample, as the strategy sees it and as LangChain does."""

    candidate: Candidate
    generation: ChatGeneration

    @property
    def message(self) -> AIMessage:
        """What the model wrote."""
        message = self.generation.message
        return message if isinstance(message, AIMessage) else AIMessage(content=message.content)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a strategy or a verifier asks the LangChain model for.

    Attributes:
        messages: The conversation.
        n: Number of samples.
        sampler: How they are drawn.
        own: Whether it is the caller's question, rather than one that a verifier or the strategy
            has made of it.
        prefix: How the answer begins.
        finished: To be told of samples that finish before the others.
    """

    messages: Sequence[BaseMessage]
    n: int
    sampler: Sampler
    own: bool
    prefix: str = ""
    finished: Callable[[ChatGeneration], None] | None = None

    def with_settings(self, settings: Mapping[str, Any]) -> Wanted:
        """The same with other settings of the sampler; at temperature 0 of one sample."""
        sampler = replace(self.sampler, **settings)
        return replace(self, sampler=sampler, n=1 if sampler.temperature == 0 else self.n)


Request = Callable[[Wanted], Awaitable[ChatResult]]


class ChatEngine:
    """A LangChain model as an engine, for one question.

    Args:
        messages: The question, with everything that a `Prompt` cannot hold.
        request: What asks the model.
        model: Name of the model.
        continues_prefix: Whether the model goes on from the beginning of an answer.

    Attributes:
        prompt: The question as strategies and verifiers see it.
        drawn: Every sample so far.
        llm_output: What the first answer told of itself.
    """

    def __init__(
        self,
        messages: Sequence[BaseMessage],
        request: Request,
        model: str,
        *,
        continues_prefix: bool = False,
    ) -> None:
        self.prompt = to_prompt(messages)
        self.drawn: list[Drawn] = []
        self.llm_output: dict[str, Any] = {}
        self.continues_prefix = continues_prefix
        self._messages = messages
        self._request = request
        self._model = model

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._model

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Draw by way of the LangChain model; see `Engine.adraw`."""
        own = prompt.messages is self.prompt.messages  # also when the answer's beginning is given
        messages = self._messages if own else from_prompt(prompt)
        noted: list[Drawn] = []

        def note(generation: ChatGeneration) -> None:
            noted.append(to_drawn(len(noted), generation, sampler))
            self.drawn.append(noted[-1])
            if on_candidate is not None:
                on_candidate(noted[-1].candidate)

        try:
            result = await self._request(Wanted(messages, n, sampler, own, prompt.prefix, note))
        except Exception as error:
            if own:
                raise  # LangChain's own error is for LangChain's caller
            raise EngineError(f"a verifier's or follow-up draw failed: {error}") from error
        told = dict(result.llm_output or {})
        samples = told.pop("samples", None)
        for generation in result.generations:
            note(generation)
        if own:
            self.llm_output = self.llm_output or told
        if isinstance(samples, Samples):
            return samples
        candidates = tuple(one.candidate for one in noted)
        return Samples(len(noted), candidates, usage=usage_of(result, candidates))

    def drawn_as(self, candidates: Sequence[Candidate]) -> list[Drawn]:
        """A strategy's candidates with their messages; one that it composed has its text alone."""
        places = places_of(candidates, [one.candidate for one in self.drawn])
        return [
            Drawn(c, _generation(c, plain_message(c)) if p is None else self.drawn[p].generation)
            for c, p in zip(candidates, places, strict=True)
        ]


def plain_message(candidate: Candidate) -> AIMessage:
    """A sample whose text is the answer."""
    return AIMessage(content=candidate.text)


async def from_engine(
    engine: Engine,
    wanted: Wanted,
    message_of: Callable[[Candidate], AIMessage] = plain_message,
) -> ChatResult:
    """Samples of an engine as LangChain's generations, made of the messages they stand for.

    Those of which `wanted.finished` has been told are not told of again.
    """
    _check_text(wanted.messages)
    prompt = replace(to_prompt(wanted.messages), prefix=wanted.prefix)
    told: set[int] = set()

    def finished(candidate: Candidate) -> None:
        if wanted.finished is not None:
            told.add(candidate.index)
            wanted.finished(_generation(candidate, message_of(candidate)))

    samples = await engine.adraw(prompt, wanted.n, wanted.sampler, on_candidate=finished)
    if not samples.candidates:
        reason = samples.failures[0].reason if samples.failures else "no reason given"
        raise EngineError(f"none of the {wanted.n} samples came back: {reason}")
    usage = samples.usage
    return ChatResult(
        generations=[
            _generation(c, message_of(c)) for c in samples.candidates if c.index not in told
        ],
        llm_output={
            "samples": samples,
            "model_name": engine.model,
            "token_usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            },
        },
    )


def _generation(candidate: Candidate, message: AIMessage) -> ChatGeneration:
    reason = "tool_calls" if message.tool_calls else candidate.finish_reason
    info = {"finish_reason": reason, "candidate": candidate}
    return ChatGeneration(message=message, generation_info=info)


def _check_text(messages: Sequence[BaseMessage]) -> None:
    """Raise InvalidInput for what an engine would never see."""
    blocks = [b for m in messages if isinstance(m.content, list) for b in m.content]
    kinds = {str(block.get("type")) for block in blocks if isinstance(block, dict)}
    if media := sorted(kinds & MEDIA):
        raise InvalidInput(
            f"an engine takes text alone, got a message with {', '.join(media)}; start a server "
            "with a model that takes it, and give base_url in place of engine"
        )


def to_prompt(messages: Sequence[BaseMessage]) -> Prompt:
    """The text of a conversation; calls of tools stand in it as JSON.

    Raises:
        InvalidInput: There are no messages.
    """
    if not messages:
        raise InvalidInput("messages must hold at least one message, got none")
    return Prompt(tuple(Message(_role(m), text_of(m)) for m in messages))


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage) and message.role in ROLES:
        return message.role
    return _ROLE_OF.get(message.type, "user")


def from_prompt(prompt: Prompt) -> list[BaseMessage]:
    """A prompt as LangChain's messages."""
    if prompt.text is not None:
        raise InvalidInput("a LangChain chat model cannot continue raw text; give messages")
    return convert_to_messages([(m.role, m.content) for m in prompt.messages])


def to_drawn(index: int, generation: ChatGeneration, sampler: Sampler) -> Drawn:
    """One generation as a candidate; calls of tools stand in its text as JSON."""
    info = generation.generation_info or {}
    made = info.pop("candidate", None)
    if isinstance(made, Candidate):
        return Drawn(made, generation)
    tokens = _tokens(info.get("logprobs"))
    message = generation.message
    count = len(tokens) or _written(message)
    logprobs = [float(t["logprob"]) for t in tokens if t.get("logprob") is not None]
    known = tokens and len(logprobs) == len(tokens)
    sure = _confidences(tokens, sampler.token_logprobs) if known else ()
    candidate = Candidate(
        index=index,
        text=text_of(message),
        token_count=count,
        finish_reason=str(info.get("finish_reason") or "stop"),
        logprob=sum(logprobs) if known else None,
        top_logprobs=_top(tokens) if sampler.top_logprobs else {},
        token_logprobs=tuple(logprobs) if sure else (),
        confidences=sure,
    )
    return Drawn(candidate, generation)


def text_of(message: BaseMessage) -> str:
    """What a verifier reads: the text, then the calls of tools as JSON."""
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    shown = [json.dumps({"name": c["name"], "args": c["args"]}) for c in calls]
    return "\n".join(part for part in [str(message.text), *shown] if part)


def _written(message: BaseMessage) -> int:
    """Words, which stand for tokens where the model does not count them."""
    return max(1, len(text_of(message).split()))


def _tokens(logprobs: object) -> list[Mapping[str, Any]]:
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return [token for token in content or [] if isinstance(token, Mapping)]


def beyond_openai(wanted: Wanted) -> dict[str, Any]:
    """The fields of a request to vLLM that OpenAI's SDK has no names for."""
    sampler = wanted.sampler
    fields = {
        "top_k": sampler.top_k,
        "min_p": sampler.min_p,
        "min_tokens": sampler.min_tokens,
        "include_stop_str_in_output": sampler.include_stop,
    }
    made: dict[str, Any] = {name: value for name, value in fields.items() if value}
    if wanted.prefix:
        made |= {"add_generation_prompt": False, "continue_final_message": True}
    extra: dict[str, Any] = {**(sampler.esamp.to_keys() if sampler.esamp else {})}
    if sampler.fire_temperature is not None:
        extra["fire_temperature"] = sampler.fire_temperature
    return {**made, "vllm_xargs": extra} if extra else made


def _top(tokens: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    first = tokens[0].get("top_logprobs") or [] if tokens else []
    return {t["token"]: t["logprob"] for t in first if t.get("logprob") is not None}


def _confidences(tokens: Sequence[Mapping[str, Any]], count: int) -> tuple[float, ...]:
    """How sure the model was in each place; empty unless that is asked for, and told of all."""
    told = [
        [t["logprob"] for t in token.get("top_logprobs") or [] if t.get("logprob") is not None]
        for token in tokens
    ]
    return tuple(confidence(row, count) for row in told) if count and all(told) else ()


def usage_of(result: ChatResult, candidates: Sequence[Candidate]) -> Usage:
    """Tokens of one answer with all its samples; without the server's word, those counted here."""
    told = (result.llm_output or {}).get("token_usage")
    if isinstance(told, Mapping):
        return Usage(told.get("prompt_tokens") or 0, told.get("completion_tokens") or 0)
    metadata = [getattr(g.message, "usage_metadata", None) for g in result.generations]
    known = [m for m in metadata if m]
    if known:
        return Usage(sum(m["input_tokens"] for m in known), sum(m["output_tokens"] for m in known))
    return Usage(0, sum(candidate.token_count for candidate in candidates))
