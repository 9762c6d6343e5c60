"""One request to a running vLLM: its samples, and what ESamp did for them."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from ttscale.engines.protocol import CandidateHook
from ttscale.errors import EngineError, EngineStopped, InvalidInput
from ttscale.sampling import Sampler
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Samples, Usage, confidence
from ttscale.worker.callers import LOCAL, caller
from ttscale.worker.parallel import fetch


async def check_plugin(llm: Any) -> None:
    """Raise EngineError unless the workers of vLLM's `AsyncLLM` have the plugin."""
    try:
        await llm.collective_rpc("esamp_report", args=([],))
    except Exception as error:
        raise EngineError(
            "vLLM did not load the ttscale plugin; if VLLM_PLUGINS is set, add 'ttscale' to it, "
            "and take TTSCALE_DISABLE away"
        ) from error


async def draw_from(
    llm: Any,
    tokenizer: Any,
    prompt: Prompt,
    n: int,
    sampler: Sampler,
    on_candidate: CandidateHook | None = None,
) -> Samples:
    """Draw `n` samples of `prompt` as one request, whose samples share a distiller.

    Args:
        llm: vLLM's `AsyncLLM`; call this on the loop that it is used from.
        tokenizer: The model's.
        prompt: What to answer.
        n: How many samples.
        sampler: How to draw them.
        on_candidate: Told of each sample as it finishes.

    Raises:
        InvalidInput: vLLM refused the request, for instance a prompt that is too long.
        EngineStopped: vLLM died before any sample came back.
    """
    caller.set(LOCAL)  # in this task; a server in the same program tells callers apart
    asked, group = _own_group(sampler)
    before = await _group_report(llm, group) if asked is sampler else None
    ids = _tokens(tokenizer, prompt)
    done, trouble = await _collect(llm, ids, n, asked, on_candidate)
    esamp = None
    if group is not None and not llm.errored:
        esamp = _since(before, await _group_report(llm, group))
    missing = sorted(set(range(n)) - done.keys())
    usage = Usage(len(ids), sum(c.token_count for c in done.values()))
    return Samples(
        requested=n,
        candidates=tuple(done[index] for index in sorted(done)),
        failures=tuple(Failure(index, trouble or "no output came back") for index in missing),
        usage=usage,
        esamp=esamp,
    )


async def _collect(
    llm: Any, ids: list[int], n: int, sampler: Sampler, on_candidate: CandidateHook | None
) -> tuple[dict[int, Candidate], str]:
    """Finished candidates by index, and what went wrong, if anything did."""
    from vllm.exceptions import VLLMClientError
    from vllm.inputs.engine import tokens_input
    from vllm.v1.engine.exceptions import EngineDeadError

    name = f"ttscale-{uuid.uuid4().hex}"
    stream = llm.generate(tokens_input(ids), _sampling_params(sampler, n), name)
    done: dict[int, Candidate] = {}
    try:
        async for step in stream:
            for output in step.outputs:
                if output.finish_reason is not None and output.index not in done:
                    done[output.index] = _candidate(output, sampler)
                    if on_candidate is not None:
                        on_candidate(done[output.index])
    except (VLLMClientError, ValueError) as error:
        raise InvalidInput(f"vLLM refused the request: {error}") from error
    except EngineDeadError as error:
        if not done:
            raise EngineStopped(f"vLLM's engine process died: {error}") from error
        return done, f"vLLM's engine process died: {error}"
    return done, ""


def _tokens(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt; conversations go through the model's chat template."""
    if prompt.text is not None:
        return list(tokenizer.encode(prompt.text + prompt.prefix))
    turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return list(tokenizer.encode(text + prompt.prefix, add_special_tokens=False))


async def _group_report(llm: Any, group: str | None) -> ESampReport | None:
    if group is None:
        return None
    found = (await fetch(llm, [group]))["groups"][group]
    return ESampReport.from_json(found) if found is not None else None


def _own_group(sampler: Sampler) -> tuple[Sampler, str | None]:
    """A sampler whose samples form a group that we can ask about, and that group's name.

    The sampler itself comes back when its group is not its own: shared, or named by the caller.
    """
    esamp = sampler.esamp
    if esamp is None:
        return sampler, None
    if esamp.scope == "shared":
        return sampler, "shared"
    if esamp.group is not None:
        return sampler, f"group:{esamp.group}"
    own = replace(esamp, group=f"draw-{uuid.uuid4().hex}")
    return replace(sampler, esamp=own), f"group:{own.group}"


def _sampling_params(sampler: Sampler, n: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    form = sampler.json_schema
    extra: dict[str, Any] = dict(sampler.esamp.to_keys()) if sampler.esamp is not None else {}
    if sampler.fire_temperature is not None:
        extra["fire_temperature"] = sampler.fire_temperature
    return SamplingParams(
        n=n,
        temperature=sampler.temperature,
        top_p=sampler.top_p,
        top_k=sampler.top_k,
        min_p=sampler.min_p,
        max_tokens=sampler.max_tokens,
        min_tokens=sampler.min_tokens,
        stop=list(sampler.stop),
        include_stop_str_in_output=sampler.include_stop,
        seed=sampler.seed,
        logprobs=sampler.likeliest,
        extra_args=extra or None,
        structured_outputs=None if form is None else StructuredOutputsParams(json=form),
        output_kind=RequestOutputKind.CUMULATIVE,
        stream_interval=sampler.max_tokens,  # only a sample's first and last output travel
    )


def _candidate(output: Any, sampler: Sampler) -> Candidate:
    top: dict[str, float] = {}
    if sampler.top_logprobs and output.logprobs:
        ranked = sorted(output.logprobs[0].values(), key=lambda entry: -float(entry.logprob))
        for entry in ranked:
            top.setdefault(entry.decoded_token, float(entry.logprob))
    chosen, confidences = _told(output, sampler.token_logprobs)
    return Candidate(
        index=output.index,
        text=output.text,
        token_count=len(output.token_ids),
        finish_reason=output.finish_reason,
        logprob=output.cumulative_logprob,
        top_logprobs=top,
        token_logprobs=chosen,
        confidences=confidences,
    )


def _told(output: Any, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Log-probability of each token, and confidence over the `count` likeliest in its place."""
    if not count or not output.logprobs:
        return (), ()
    places = [{t: float(entry.logprob) for t, entry in row.items()} for row in output.logprobs]
    chosen = (row[token] for row, token in zip(places, output.token_ids, strict=True))
    return tuple(chosen), tuple(confidence(row.values(), count) for row in places)


def _since(before: ESampReport | None, now: ESampReport | None) -> ESampReport | None:
    """What happened between two reports of a group that others use too."""
    if before is None or now is None:
        return now
    causes = {c: k - before.fallbacks.get(c, 0) for c, k in now.fallbacks.items()}
    return replace(
        now,
        rows_mixed=now.rows_mixed - before.rows_mixed,
        steps_trained=now.steps_trained - before.steps_trained,
        fallbacks={c: k for c, k in causes.items() if k},
    )
