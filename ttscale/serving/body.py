"""Reads a request: OpenAI's fields and the object `ttscale`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ttscale import _check
from ttscale.engines._wire import Json
from ttscale.errors import InvalidInput
from ttscale.esamp.defaults import fill
from ttscale.esamp.settings import KEY_PREFIX, ESamp
from ttscale.sampling import FIRE_RANGE, Sampler
from ttscale.serving.backend import Facts
from ttscale.serving.strategy import VERIFIERS, strategy_of
from ttscale.strategies import Budget, SelfConsistency, Strategy
from ttscale.strategies.messages import Form
from ttscale.types import ROLES, Message, Prompt

DEFAULT_COUNT = 8
MAX_COUNT = 1024
SEEDS = 2**31
SAMPLED = ("temperature", "top_p", "top_k", "min_p")
# each of these is a promise that one message chosen among many cannot keep
NOT_TAKEN = ("use_beam_search", "echo", "prompt_logprobs", "kv_transfer_params")
FIRE_KEY = "fire_temperature"


class Limits(BaseModel):
    """The member `budget` of `ttscale`; see `ttscale.strategies.Budget`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_samples: int | None = None
    max_tokens: int | None = None
    deadline_seconds: float | None = None


class Options(BaseModel):
    """The object `ttscale` of a request; everything has a default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    strategy: Annotated[str, Field(description="How the answer is selected.")] = (
        SelfConsistency.name
    )
    n: Annotated[int, Field(ge=1, le=MAX_COUNT, description="Number of samples.")] = DEFAULT_COUNT
    beta: Annotated[
        float | None,
        Field(description="Strength of ESamp; 0 samples plainly. Default: the server's, or 0.25."),
    ] = None
    distiller: str | None = None
    fusion: str | None = None
    scope: str | None = None
    group: str | None = None
    gate: bool | None = None
    hold_eos: bool | None = None
    fire_temperature: float | None = None
    verifier: Annotated[
        str | None, Field(description=f"Scores the samples: {', '.join(VERIFIERS)}.")
    ] = None
    kind: Annotated[str | None, Field(description="Kind of answer to look for.")] = None
    budget: Annotated[
        Limits | None, Field(description="Limits of the run; the best so far is then answered.")
    ] = None
    return_candidates: Annotated[
        bool, Field(description="Whether the block `ttscale` holds the samples' texts.")
    ] = False


class ChatBody(BaseModel):
    """A body of OpenAI's chat route; the server's own route checks the fields not named here."""

    model_config = ConfigDict(extra="allow")

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    model: str | None = None
    n: int | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    ttscale: Options | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run for one request.

    Attributes:
        strategy: The strategy.
        prompt: The conversation as strategies see it: texts only.
        form: The form of answer that is asked for.
        conversation: Fields of the body that go with every sample of the conversation.
        model: Name of the model.
        seed: Seed of the run; None draws a fresh one.
        options: The object `ttscale`.
        budget: Limits of the run.
        streams: Whether the answer is streamed.
        tells_usage: Whether a streamed answer ends with its usage.
    """

    strategy: Strategy[Any]
    prompt: Prompt
    form: Form
    conversation: Mapping[str, Json]
    model: str
    seed: int | None
    options: Options
    budget: Budget | None = None
    streams: bool = False
    tells_usage: bool = False


def fields_of(body: ChatBody) -> dict[str, Any]:
    """The fields of the chat route that were given, without those that say how to answer."""
    return body.model_dump(exclude={"ttscale", "stream", "stream_options"}, exclude_unset=True)


def read(body: ChatBody, facts: Facts) -> Job:
    """Read a request whose fields the server has checked.

    Raises:
        InvalidInput: A field is refused, or cannot go together with a strategy.
    """
    options = body.ttscale or Options()
    raw = fields_of(body)
    _refuse(raw)
    sampler, seed = _sampler(raw, facts, options), raw.get("seed")
    form = _form(raw)
    if seed is not None and not isinstance(seed, int):
        raise InvalidInput(f"seed must be a whole number, got {seed!r}")
    return Job(
        strategy=_strategy(options, sampler, form),
        prompt=Prompt(messages=tuple(_turn(message) for message in body.messages)),
        form=form,
        conversation={k: v for k, v in raw.items() if k not in _REPLACED},
        model=body.model or facts.models[0],
        seed=None if seed is None else seed % SEEDS,
        options=options,
        budget=None if options.budget is None else Budget(**options.budget.model_dump()),
        streams=bool(body.stream),
        tells_usage=bool((body.stream_options or {}).get("include_usage")),
    )


# a draw writes these itself
_REPLACED = {*SAMPLED, "n", "model", "seed", "stop", "max_tokens", "max_completion_tokens"}


def _refuse(raw: Mapping[str, Any]) -> None:
    _check.integer("n", raw.get("n") or 1, 1)
    if (raw.get("n") or 1) != 1:
        raise InvalidInput(
            f"n must be 1 here, got {raw['n']}: one message is chosen; the number of samples is "
            "ttscale.n"
        )
    for name in NOT_TAKEN:
        if raw.get(name) not in (None, False):
            raise InvalidInput(f"{name} does not go together with a strategy; drop it")


def _strategy(options: Options, sampler: Sampler, form: Form) -> Strategy[Any]:
    return strategy_of(
        options.strategy,
        options.n,
        sampler,
        options.verifier,
        options.kind or "auto",
        structured=form.structured,
    )


def _sampler(raw: Mapping[str, Any], facts: Facts, options: Options) -> Sampler:
    """How samples are drawn: the body's settings, else the model's own."""
    settings: dict[str, Any] = {}
    for name in SAMPLED:
        value = raw.get(name)
        settings[name] = facts.sampling.get(name) if value is None else value
    settings["max_tokens"] = _longest(raw, facts)
    settings["stop"] = _stops(raw.get("stop"))
    extra = raw.get("vllm_xargs") or {}
    settings["esamp"] = _esamp(options, extra, facts)
    fire = options.fire_temperature
    if fire is not None:
        _check.number("ttscale.fire_temperature", fire, *FIRE_RANGE, open_low=True)
    settings[FIRE_KEY] = extra.get(FIRE_KEY) if fire is None else fire
    if settings["top_k"] is not None:
        settings["top_k"] = max(settings["top_k"], 0)  # vLLM also takes -1 for all
    return Sampler(**{name: value for name, value in settings.items() if value is not None})


def _longest(raw: Mapping[str, Any], facts: Facts) -> object:
    """Longest answer: as OpenAI names it, as it once did, the model's own, or what there is."""
    given = (raw.get("max_completion_tokens"), raw.get("max_tokens"))
    known = (*given, facts.sampling.get("max_tokens"), facts.max_tokens)
    return next(value for value in known if value is not None)


def _stops(stop: object) -> tuple[str, ...]:
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,) if stop else ()
    if not isinstance(stop, list):
        raise InvalidInput(f"stop must be a text or a list of texts, got {stop!r}")
    return tuple(stop)


def _esamp(options: Options, extra: Mapping[str, Any], facts: Facts) -> ESamp | None:
    """ESamp's settings: of `ttscale`, else of `vllm_xargs`, else the server's, else the default."""
    asked = {
        f"{KEY_PREFIX}{name}": value
        for name in ("beta", "distiller", "fusion", "scope", "group", "gate", "hold_eos")
        if (value := getattr(options, name)) is not None
    }
    own = {**{k: v for k, v in extra.items() if k.startswith(KEY_PREFIX)}, **asked}
    if not own and facts.esamp_refused:
        return None
    settings = ESamp.from_keys(fill(own, facts.esamp_defaults)) or ESamp()
    if settings.beta == 0:
        return None
    if facts.esamp_refused:
        raise InvalidInput(f"ESamp is not available on this server: {facts.esamp_refused}")
    return settings


def _form(raw: Mapping[str, Any]) -> Form:
    """The form of answer, as far as the fields have the right types; the server checks them."""
    tools, wanted = raw.get("tools"), raw.get("response_format")
    whole = isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    return Form.of(
        tools if whole and raw.get("tool_choice") != "none" else None,
        raw.get("tool_choice"),
        wanted if isinstance(wanted, dict) else None,
        parallel=raw.get("parallel_tool_calls") is not False,
    )


def _turn(message: Mapping[str, Any]) -> Message:
    """One turn as text; the original goes to the model."""
    role = message.get("role")
    role = "system" if role == "developer" else role
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidInput(f"role must be one of {', '.join(ROLES)}, developer; got {role!r}")
    return Message(role, _text(message.get("content")) + _calls(message.get("tool_calls")))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts: Sequence[object] = content if isinstance(content, list) else ()
    texts = [part if isinstance(part, str) else _part(part) for part in parts]
    return "\n".join(texts)


def _part(part: object) -> str:
    if not isinstance(part, Mapping):
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else f"[{part.get('type', 'part')}]"


def _calls(calls: object) -> str:
    if not isinstance(calls, list) or not calls:
        return ""
    return json.dumps([call.get("function") for call in calls if isinstance(call, Mapping)])
