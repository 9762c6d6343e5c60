"""OpenAI's wire format: bodies of requests, and candidates out of what comes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pydantic import BaseModel, TypeAdapter, ValidationError

from ttscale.engines._hosts import Facts
from ttscale.engines.protocol import CandidateHook
from ttscale.errors import EngineError, InvalidInput
from ttscale.sampling import Sampler
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Samples, Usage, confidence

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
CHAT, TEXT = "chat/completions", "completions"


def route(prompt: Prompt) -> str:
    """Where a prompt goes: conversations to the chat route, raw text to the other."""
    return CHAT if prompt.text is None else TEXT


def body(
    prompt: Prompt,
    n: int,
    sampler: Sampler,
    model: str,
    facts: Facts,
    *,
    logprobs: bool,
    stream: bool,
) -> dict[str, Json]:
    """The body of one request for `n` samples."""
    made: dict[str, Json] = {
        "model": model,
        "n": n,
        "temperature": sampler.temperature,
        "top_p": sampler.top_p,
        "max_tokens": sampler.max_tokens,
    }
    made |= _question(prompt, facts)
    if sampler.stop:
        made["stop"] = list(sampler.stop)
    if sampler.seed is not None:
        made["seed"] = sampler.seed
    if sampler.json_schema is not None:
        form: dict[str, Json] = {"name": "answer", "schema": json.loads(sampler.json_schema)}
        made["response_format"] = {"type": "json_schema", "json_schema": form}
    made |= _beyond_openai(sampler, facts)
    if logprobs:
        made |= _logprobs(prompt, sampler)
    if stream:
        made["stream"] = True
        made["stream_options"] = {"include_usage": True}
        if facts.vllm:  # tells the prompt's length with every event, so also of broken answers
            made["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    return made


def _question(prompt: Prompt, facts: Facts) -> dict[str, Json]:
    """What is asked; the beginning of an answer goes as a last turn that is not closed."""
    if prompt.text is not None:
        return {"prompt": prompt.text + prompt.prefix}
    turns: list[Json] = [{"role": m.role, "content": m.content} for m in prompt.messages]
    if not prompt.prefix:
        return {"messages": turns}
    if not facts.vllm:
        raise InvalidInput(
            "the prompt begins the answer (prefix), and the server is not vLLM: only vLLM goes on "
            "from the beginning of an answer to a conversation; use raw text or a vLLM server"
        )
    turns.append({"role": "assistant", "content": prompt.prefix})
    return {"messages": turns, "add_generation_prompt": False, "continue_final_message": True}


def needs_plugin(sampler: Sampler) -> bool:
    """Whether a server must have the ttscale plugin to draw with these settings."""
    return sampler.esamp is not None or sampler.fire_temperature is not None


def _beyond_openai(sampler: Sampler, facts: Facts) -> dict[str, Json]:
    """Fields that OpenAI itself does not have and refuses."""
    made: dict[str, Json] = {}
    if sampler.include_stop:
        _refuse_unless_vllm("include_stop", facts)
        made["include_stop_str_in_output"] = True
    if sampler.min_tokens:
        _refuse_unless_vllm("min_tokens", facts)
        made["min_tokens"] = sampler.min_tokens
    if facts.vllm:  # it takes what is left out from the model's own generation settings
        made |= {"top_k": sampler.top_k, "min_p": sampler.min_p, "repetition_penalty": 1.0}
    if sampler.top_k:
        made["top_k"] = sampler.top_k
    if sampler.min_p:
        made["min_p"] = sampler.min_p
    extra: dict[str, Json] = {**(sampler.esamp.to_keys() if sampler.esamp else {})}
    if sampler.fire_temperature is not None:
        extra["fire_temperature"] = sampler.fire_temperature
    if extra:
        made["vllm_xargs"] = extra
    return made


def _refuse_unless_vllm(setting: str, facts: Facts) -> None:
    if not facts.vllm:
        raise InvalidInput(
            f"the sampler's {setting} needs a vLLM server; draw without it, or use one"
        )


def _logprobs(prompt: Prompt, sampler: Sampler) -> dict[str, Json]:
    if prompt.text is not None:
        return {"logprobs": sampler.likeliest}
    top: dict[str, Json] = {"top_logprobs": sampler.likeliest} if sampler.likeliest else {}
    return {"logprobs": True, **top}


class _Likely(BaseModel):
    token: str
    logprob: float | None = None


class _Token(_Likely):
    top_logprobs: list[_Likely] | None = None


class _Logprobs(BaseModel):
    """Of the chat route (`content`) or of the text route (the others)."""

    content: list[_Token] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Part(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    index: int = 0
    delta: _Part | None = None
    message: _Part | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None

    @property
    def content(self) -> str:
        part = self.delta or self.message
        return (part.content if part else self.text) or ""

    @property
    def tokens(self) -> list[_Token]:
        """The tokens with their log-probabilities, of either route."""
        known = self.logprobs
        if known is None:
            return []
        if known.tokens is None:
            return known.content or []
        values = known.token_logprobs or [None] * len(known.tokens)
        tops = known.top_logprobs or [None] * len(known.tokens)
        rows = zip(known.tokens, values, tops, strict=False)
        return [_Token(token=t, logprob=v, top_logprobs=_likely(top)) for t, v, top in rows]


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(BaseModel):
    """A whole answer, or one event of a stream."""

    choices: list[_Choice] = []
    usage: _Usage | None = None


def _likely(top: dict[str, float] | None) -> list[_Likely]:
    return [_Likely(token=token, logprob=value) for token, value in (top or {}).items()]


@dataclass(slots=True)
class _Partial:
    """What has come of one sample; `count` likeliest tokens are looked at in each place."""

    count: int = 0
    texts: list[str] = field(default_factory=list)
    token_count: int = 0
    logprob: float | None = 0.0  # None once a token came without
    top: dict[str, float] = field(default_factory=dict)
    chosen: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)

    def add(self, choice: _Choice) -> None:
        if choice.content:
            self.texts.append(choice.content)
        for token in choice.tokens:
            if not self.token_count:
                self._take_top(token)
            self.token_count += 1
            known = self.logprob is not None and token.logprob is not None
            self.logprob = self.logprob + token.logprob if known else None  # type: ignore[operator]
            self._take_confidence(token)

    def _take_confidence(self, token: _Token) -> None:
        told = [t.logprob for t in token.top_logprobs or [] if t.logprob is not None]
        if self.count and told and token.logprob is not None:
            self.chosen.append(token.logprob)
            self.confidences.append(confidence(told, self.count))

    def _take_top(self, first: _Token) -> None:
        ranked = [t for t in first.top_logprobs or [] if t.logprob is not None]
        for likely in sorted(ranked, key=lambda t: -(t.logprob or 0.0)):
            self.top.setdefault(likely.token, likely.logprob or 0.0)


class Assembly:
    """Puts the samples of one request together as they come.

    Attributes:
        done: Finished candidates by index.
        usage: Tokens as the server counts them, so far.
        esamp, replicas: As in `Samples`, so far.
    """

    def __init__(self, n: int, sampler: Sampler, on_candidate: CandidateHook | None) -> None:
        self.done: dict[int, Candidate] = {}
        self.usage = Usage()
        self.esamp: ESampReport | None = None
        self.replicas: list[str] = []
        self._n, self._hook = n, on_candidate
        self._top, self._count_told = sampler.top_logprobs, sampler.token_logprobs
        self._partial: dict[int, _Partial] = {}

    @property
    def complete(self) -> bool:
        """Whether all samples have finished."""
        return len(self.done) == self._n

    def restart(self) -> None:
        """Drop what has come of unfinished samples, before the request is sent again."""
        self._partial.clear()

    def add(self, payload: bytes, *, whole: bool = False) -> None:
        """Take in one event of a stream, or the `whole` answer.

        Raises:
            EngineError: It is not in OpenAI's format.
        """
        try:
            answer = _Answer.model_validate_json(payload)
        except ValidationError as error:
            where = error.errors(include_input=False, include_url=False)[0]
            raise EngineError(f"the server's answer is not in OpenAI's format: {where}") from None
        estimates = _shares(answer) if whole else [0] * len(answer.choices)
        for choice, estimate in zip(answer.choices, estimates, strict=True):
            self._take(choice, estimate)
        if answer.usage is not None:
            self._count(answer.usage)

    def _take(self, choice: _Choice, estimate: int) -> None:
        if not 0 <= choice.index < self._n:
            raise EngineError(
                f"the server's answer is wrong: it has a sample {choice.index}, "
                f"and {self._n} were asked for, counted from 0"
            )
        if choice.index in self.done:
            return
        partial = self._partial.setdefault(choice.index, _Partial(self._count_told))
        partial.add(choice)
        if choice.finish_reason is not None:
            del self._partial[choice.index]
            made = self._candidate(choice.index, partial, choice.finish_reason, estimate)
            self.done[choice.index] = made
            if self._hook is not None:
                self._hook(made)

    def _candidate(self, index: int, partial: _Partial, reason: str, estimate: int) -> Candidate:
        told = len(partial.chosen) == partial.token_count  # a gap would shift all that follow
        return Candidate(
            index=index,
            text="".join(partial.texts),
            token_count=partial.token_count or estimate or len(partial.texts),
            finish_reason=reason,
            logprob=partial.logprob if partial.token_count else None,
            top_logprobs=partial.top if self._top else {},
            token_logprobs=tuple(partial.chosen) if told else (),
            confidences=tuple(partial.confidences) if told else (),
        )

    def _count(self, usage: _Usage) -> None:
        """Events may count the tokens of one sample alone; the largest number is all of them."""
        self.usage = Usage(
            max(self.usage.prompt_tokens, usage.prompt_tokens),
            max(self.usage.completion_tokens, usage.completion_tokens),
        )

    def samples(self, reason: str) -> Samples:
        """What has come, and `reason` for each sample that has not."""
        missing = [index for index in range(self._n) if index not in self.done]
        partial = sum(p.token_count for p in self._partial.values())
        counted = sum(c.token_count for c in self.done.values()) + partial
        completion = max(self.usage.completion_tokens, counted)  # a broken answer has no total
        return Samples(
            requested=self._n,
            candidates=tuple(self.done[index] for index in sorted(self.done)),
            failures=tuple(Failure(i, reason or "the server left it out") for i in missing),
            usage=Usage(self.usage.prompt_tokens, completion),
            esamp=self.esamp,
            replicas=tuple(self.replicas),
        )


def _shares(answer: _Answer) -> list[int]:
    """Tokens of each sample, estimated from its share of the text of a whole answer.

    Used only where the server sends no log-probabilities, whose number is exact.
    """
    total = answer.usage.completion_tokens if answer.usage is not None else 0
    lengths = [len(choice.content) for choice in answer.choices]
    return [total * length // (sum(lengths) or 1) for length in lengths]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as a server tells it."""

    message: str
    status: int


def refusal(payload: bytes, status: int) -> Refusal | None:
    """The error in an answer or event; None when it holds none.

    `status` stands for a code that the error itself does not name.
    """
    try:
        content = json.loads(payload)
    except ValueError:
        return None
    error = content.get("error") if isinstance(content, dict) else None
    if error is None:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    told = error.get("message", error) if isinstance(error, dict) else error
    return Refusal(str(told), code if isinstance(code, int) else status)


def error_text(payload: bytes, limit: int = 500) -> str:
    """What a refused request's answer says, in at most `limit` characters."""
    found = refusal(payload, 0)
    text = found.message if found else payload.decode("utf-8", "replace").strip()
    return text[:limit] or "no message"


def facts(payload: bytes) -> Facts:
    """What the answer of `GET models` tells; nothing when it is in another format."""
    try:
        content = json.loads(payload)
        rows: Sequence[dict[str, str]] = content["data"]
        names = tuple(str(row["id"]) for row in rows)
        return Facts(names, any(row.get("owned_by") == "vllm" for row in rows))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Facts()


_REPORT: TypeAdapter[ESampReport | None] = TypeAdapter(ESampReport | None)


def esamp_report(plain: object) -> ESampReport | None:
    """A report that came as plain values; None when there is none, or it is in another format."""
    try:
        return _REPORT.validate_python(plain)
    except ValidationError:
        return None


def esamp_of_group(payload: bytes, group: str) -> ESampReport | None:
    """The report of one group in the answer of `/ttscale/v1/esamp`."""
    try:
        return esamp_report(json.loads(payload)["groups"][group])
    except (ValueError, KeyError, TypeError):
        return None


def esamp_status(payload: bytes) -> tuple[bool, str] | None:
    """Whether a server has ESamp, and why not, as `/ttscale/v1/models` tells; None if it does not.

    Only a server that was started by `ttscale serve`, or with our plugin named, has that route.
    """
    try:
        told = json.loads(payload)["ttscale"]["esamp"]
        return bool(told["active"]), str(told["reason"])
    except (ValueError, KeyError, TypeError):
        return None
