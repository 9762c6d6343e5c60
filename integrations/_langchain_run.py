"""One run of a strategy over a LangChain model, and what LangChain gets of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, ToolCallChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from ttscale.errors import EngineError
from ttscale.integrations._langchain_draw import ChatEngine, Drawn
from ttscale.integrations._langchain_pick import Asked, choose, parsed, report
from ttscale.strategies import Strategy, arun
from ttscale.types import Usage


async def answer(
    strategy: Strategy[Any],
    engine: ChatEngine,
    asked: Asked,
    *,
    seed: int | None = None,
    keep_all: bool = False,
    logprobs: bool = False,
) -> ChatResult:
    """The winner of a run as LangChain's result, then the others if they are wanted.

    Args:
        strategy: What chooses.
        engine: The question, and what asks the model.
        asked: The form of answer that is asked for.
        seed: Seed of the samples and of ties.
        keep_all: Whether the other samples follow.
        logprobs: Whether the caller asked for log-probabilities.

    Raises:
        EngineError: No sample came back.
    """
    outcome = await arun(strategy, engine, engine.prompt, seed=seed)
    drawn = engine.drawn_as(outcome.candidates)
    if not drawn:
        raise EngineError(outcome.reason or outcome.stopped or "no sample came back")
    choice = choose(strategy, outcome, drawn, asked, seed or 0)
    told = report(outcome, drawn, choice)
    places = [choice.place]
    if keep_all:
        places += [place for place in range(len(drawn)) if place != choice.place]
    generations = []
    for rank, place in enumerate(places):
        one = drawn[place]
        usage = _usage(one, outcome.usage) if rank == 0 else None
        own = {**told, "index": place, "score": told["candidates"][place]["score"]}
        generations.append(
            _generation(one, engine, asked, own if rank == 0 else _brief(own), usage, logprobs)
        )
    return ChatResult(generations=generations, llm_output=_output(engine, outcome.usage))


def _brief(told: dict[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("strategy", "index", "score", "selected")}


def _generation(
    one: Drawn,
    engine: ChatEngine,
    asked: Asked,
    told: dict[str, Any],
    usage: UsageMetadata | None,
    logprobs: bool,
) -> ChatGeneration:
    message = one.message
    extra = dict(message.additional_kwargs)
    if asked.schema is not None and not message.tool_calls:
        extra["parsed"] = parsed(message, asked.schema)
    metadata = {
        **message.response_metadata,
        "model_provider": "openai",  # whose format the content has
        "model_name": engine.llm_output.get("model_name", engine.model),
        "ttscale": told,
    }
    update = {"additional_kwargs": extra, "response_metadata": metadata, "usage_metadata": usage}
    info = dict(one.generation.generation_info or {})
    if not logprobs:
        info.pop("logprobs", None)
    return ChatGeneration(message=message.model_copy(update=update), generation_info=info)


def _usage(one: Drawn, usage: Usage) -> UsageMetadata:
    """Tokens of all samples and of the verifier, told once."""
    total = usage.prompt_tokens + usage.completion_tokens
    made = UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=total
    )
    details = one.message.usage_metadata
    if details and "input_token_details" in details:
        made["input_token_details"] = details["input_token_details"]
    return made


def _output(engine: ChatEngine, usage: Usage) -> dict[str, Any]:
    tokens = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    return {**engine.llm_output, "token_usage": tokens}


def progress(strategy: Strategy[Any], n: int | None) -> ChatGenerationChunk:
    """The first chunk of a stream: what is being done, and no text."""
    told = {"strategy": strategy.name, "requested": n}
    message = AIMessageChunk(content="", response_metadata={"ttscale_progress": told})
    return ChatGenerationChunk(message=message)


def last_chunk(result: ChatResult) -> ChatGenerationChunk:
    """The selected answer as the one chunk that carries it."""
    first = result.generations[0]
    message = first.message
    if not isinstance(message, AIMessage):
        raise EngineError(f"a chat model gives AI messages, got {type(message).__name__}")
    calls = [_chunk_of(place, call) for place, call in enumerate(_raw_calls(message))]
    chunk = AIMessageChunk(
        content=message.content,
        additional_kwargs=message.additional_kwargs,
        response_metadata={**message.response_metadata, **_finish(first)},
        usage_metadata=message.usage_metadata,
        tool_call_chunks=calls,
        chunk_position="last",
    )
    return ChatGenerationChunk(message=chunk, generation_info=first.generation_info)


def _finish(generation: ChatGeneration) -> dict[str, Any]:
    reason = (generation.generation_info or {}).get("finish_reason")
    return {"finish_reason": reason} if reason else {}


def _raw_calls(message: AIMessage) -> Sequence[dict[str, Any]]:
    good = [{**call, "args": json.dumps(call["args"])} for call in message.tool_calls]
    return [*good, *message.invalid_tool_calls]  # type: ignore[list-item]


def _chunk_of(place: int, call: dict[str, Any]) -> ToolCallChunk:
    return ToolCallChunk(
        name=call.get("name"),
        args=call.get("args"),
        id=call.get("id"),
        index=place,
        type="tool_call_chunk",
    )
