"""Translation between DSPy's requests and responses and ttscale's prompts and candidates."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from dspy import lm15

from ttscale.errors import EngineError, EngineStopped, InvalidInput
from ttscale.esamp.settings import KEY_PREFIX, ESamp
from ttscale.sampling import Sampler
from ttscale.strategies import Outcome
from ttscale.types import Candidate, Message, Prompt, Samples, Usage

CHANNEL = "ttscale"
"""The entry of DSPy's request metadata, and of a response's provider data, that is ours."""

_ROLES = {"user": "user", "assistant": "assistant", "developer": "system"}
_REFUSED = (
    "cache",
    "frequency_penalty",
    "logprobs",
    "presence_penalty",
    "probabilities",
    "reasoning",
    "response_format",
    "service_tier",
    "store",
    "tool_choice",
    "user_id",
)
_PASSED = ("max_tokens", "temperature", "top_p", "top_k", "seed")
_OWN = ("min_p", "fire_temperature")
_TOO_LONG = re.compile(r"context length|maximum model length|max_model_len|longer than", re.I)
_WORDS = re.compile(r"\S+\s*|\s+")


def prompt_of(request: lm15.Request) -> Prompt:
    """The conversation of a request.

    Raises:
        UnsupportedFeatureError: It holds tools, or a message that is more than text.
    """
    if request.tools:
        raise _unsupported("tools", "describe the tools in the prompt (DSPy's adapters do so)")
    turns = [Message("system", _system(request))] if request.system else []
    turns += [_turn(message) for message in request.messages]
    return Prompt(messages=tuple(turns))


def sampler_of(config: lm15.Config, default: Sampler) -> Sampler:
    """The sampler that a request asks for; `default` supplies what it leaves open.

    Raises:
        UnsupportedFeatureError: It asks for something that samplers do not have.
        InvalidInput: A setting is outside its legal range.
    """
    extensions = dict(config.extensions or {})
    own = (extensions.pop("metadata", None) or {}).get(CHANNEL, {})
    _refuse(config, extensions)
    changes = {name: getattr(config, name) for name in _PASSED if getattr(config, name) is not None}
    if config.stop:
        changes["stop"] = tuple(config.stop)
    return replace(default, **changes, **_own_changes(own))


def completed(config: lm15.Config, settings: Mapping[str, Any]) -> lm15.Config:
    """The config with request settings of an LM where it says nothing itself."""
    open_ones = [n for n in (*_PASSED, "stop") if getattr(config, n) in (None, ())]
    return replace(config, **{n: settings[n] for n in open_ones if settings.get(n) is not None})


def settings_of(sampler: Sampler) -> tuple[dict[str, Any], dict[str, Any]]:
    """A sampler as keyword arguments of `dspy.LM`, and what these have no words for."""
    plain = {name: getattr(sampler, name) for name in ("temperature", "max_tokens", "top_p")}
    plain |= {"top_k": sampler.top_k} if sampler.top_k else {}
    plain |= {"stop": list(sampler.stop)} if sampler.stop else {}
    plain |= {"seed": sampler.seed} if sampler.seed is not None else {}
    own = {name: getattr(sampler, name) for name in _OWN}
    return plain, {**own, "esamp": esamp_settings(sampler.esamp)}


def esamp_settings(esamp: ESamp | None) -> dict[str, Any] | None:
    """ESamp settings as JSON values."""
    return None if esamp is None else asdict(esamp)


def sibling_responses(samples: Samples, model: str) -> list[lm15.Response]:
    """One response for each candidate; the prompt's tokens are counted on the first."""
    shared: dict[str, Any] = {"requested": samples.requested, **_report(samples.esamp)}
    shared["failures"] = [failure.reason for failure in samples.failures]
    return [
        _response(
            candidate,
            model,
            Usage(0 if place else samples.usage.prompt_tokens, candidate.token_count),
            shared,
        )
        for place, candidate in enumerate(samples.candidates)
    ]


def selected_response(outcome: Outcome, chosen: Candidate, model: str) -> lm15.Response:
    """The response that stands for all samples of a strategy, with the usage of all of them."""
    report: dict[str, Any] = {
        "strategy": outcome.strategy,
        "requested": outcome.requested,
        "answer": outcome.answer,
        "votes": [[vote.answer, vote.count, vote.weight] for vote in outcome.votes],
        "tie": outcome.tie,
        "margin": outcome.margin,
        "reason": outcome.reason,
        "failures": [failure.reason for failure in outcome.failures],
        **_report(outcome.esamp),
    }
    return _response(chosen, model, outcome.usage, report)


def events_of(response: lm15.Response) -> Iterator[lm15.StreamEvent]:
    """A finished response as a stream, word by word, so that DSPy's listeners can follow it."""
    yield lm15.StreamStartEvent(id=response.id, model=response.model)
    for word in _WORDS.findall(response.text or ""):
        yield lm15.StreamDeltaEvent(delta=lm15.TextDelta(text=word))
    yield lm15.StreamEndEvent(
        finish_reason=response.finish_reason,
        usage=response.usage,
        provider_data=response.provider_data,
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise ttscale's errors as those by which DSPy decides whether to retry.

    A draw that failed is retried; a refused request and a closed engine are not.
    """
    try:
        yield
    except InvalidInput as error:
        kind = lm15.ContextLengthError if _TOO_LONG.search(str(error)) else lm15.InvalidRequestError
        raise kind(str(error)) from error
    except EngineStopped as error:
        raise lm15.ProviderError(str(error)) from error
    except EngineError as error:
        raise lm15.ServerError(str(error)) from error


def _response(
    candidate: Candidate, model: str, usage: Usage, report: Mapping[str, Any]
) -> lm15.Response:
    facts = {
        "index": candidate.index,
        "token_count": candidate.token_count,
        "logprob": candidate.logprob,
        "finish_reason": candidate.finish_reason,
    }
    reason = candidate.finish_reason
    return lm15.Response(
        id=f"ttscale-{uuid.uuid4().hex}",
        model=model,
        message=lm15.Message.assistant(candidate.text),
        finish_reason=reason if reason in ("stop", "length") else "error",
        usage=lm15.Usage(usage.prompt_tokens, usage.completion_tokens),
        provider_data={CHANNEL: {**facts, **report}},
    )


def _report(report: Any) -> dict[str, Any]:
    return {} if report is None else {"esamp": report.to_json()}


def _own_changes(own: Mapping[str, Any]) -> dict[str, Any]:
    """The sampler settings in our entry of a request's metadata."""
    if unknown := sorted(own.keys() - {*_OWN, "engine", "esamp", "strategy"}):
        raise InvalidInput(
            f"unknown ttscale setting {unknown[0]!r} in metadata; allowed are esamp, "
            + ", ".join(_OWN)
        )
    changes = {name: own[name] for name in _OWN if name in own}
    if "esamp" not in own:
        return changes
    esamp = own["esamp"]
    if esamp is not None:
        esamp = ESamp.from_keys({KEY_PREFIX + name: v for name, v in esamp.items()}) or ESamp()
    return {**changes, "esamp": esamp}


def _system(request: lm15.Request) -> str:
    system = request.system
    return system if isinstance(system, str) else _text(system)


def _turn(message: lm15.Message) -> Message:
    if message.role not in _ROLES:
        raise _unsupported(f"messages of role {message.role!r}", "put their content in user turns")
    return Message(_ROLES[message.role], _text(message.parts))


def _text(parts: Sequence[Any]) -> str:
    """The text of message parts; parts of any other kind are refused, not dropped."""
    for part in parts:
        if not isinstance(part, lm15.TextPart):
            raise _unsupported(f"{part.type} parts", "the engine takes text only")
    return "".join(part.text for part in parts)


def _refuse(config: lm15.Config, extensions: Mapping[str, Any]) -> None:
    asked = [name for name in _REFUSED if getattr(config, name) not in (None, 0.0)]
    asked += ["logprobs"] if config.logprobs == 0 else []
    if asked or extensions:
        name = sorted({*asked, *extensions})[0]
        raise _unsupported(name, "settings that pass are " + ", ".join((*_PASSED, "stop")))


def _unsupported(feature: str, advice: str) -> lm15.UnsupportedFeatureError:
    return lm15.UnsupportedFeatureError(
        f"a ttscale engine has no {feature}; {advice}", feature=feature
    )
