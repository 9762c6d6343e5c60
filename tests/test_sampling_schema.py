"""Guided decoding: samples that are held to a JSON schema while they are written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ttscale import ESamp, LocalEngine, Prompt, Sampler, ServerEngine, draw
from ttscale.errors import InvalidInput
from ttscale.strategies.messages import schema_check
from ttscale.testing import ScriptedServer

ANSWER = {
    "type": "object",
    "properties": {
        "sum": {"type": "integer", "minimum": 0, "maximum": 999},
        "sure": {"enum": ["yes", "no"]},
    },
    "required": ["sum", "sure"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", ["", "{", "[]", ANSWER])
def test_what_is_no_text_of_a_json_object_is_refused(schema: object) -> None:
    """A schema travels as text, so that samplers compare and hash."""
    with pytest.raises(InvalidInput, match="json_schema must be the text of a JSON object"):
        Sampler(json_schema=schema)  # type: ignore[arg-type]


def test_servers_are_sent_the_schema_as_a_response_format() -> None:
    """The field that OpenAI's format has for it."""
    with ScriptedServer(["{}"]) as server, ServerEngine(server.base_url) as engine:
        draw(engine, Prompt.of("?"), 1, Sampler(json_schema=json.dumps(ANSWER)))

    form = server.posts[-1].body["response_format"]
    assert form == {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER}}


@pytest.mark.engine
@pytest.mark.parametrize(
    "sampler",
    [
        Sampler(max_tokens=64, seed=1),
        Sampler(max_tokens=64, seed=1, top_p=0.9, top_k=9, esamp=ESamp(beta=0.5)),
    ],
    ids=["plain", "esamp"],
)
def test_every_finished_sample_fits(engine: LocalEngine, sampler: Sampler) -> None:
    """ESamp re-weights what the grammar leaves; what is masked stays masked."""
    held = replace(sampler, json_schema=json.dumps(ANSWER))
    samples = engine.draw("What is 17 + 4?", 4, held)
    finished = [c.text for c in samples.candidates if c.finish_reason == "stop"]

    assert finished
    assert all(schema_check(ANSWER)(json.loads(text)) for text in finished)
    if samples.esamp is not None:
        assert samples.esamp.rows_mixed > 0
        assert samples.esamp.fallback_count == 0


@pytest.mark.engine
def test_a_schema_that_vllm_does_not_know_is_refused(engine: LocalEngine) -> None:
    """Before anything is drawn, and the engine goes on."""
    with pytest.raises(InvalidInput, match="vLLM refused"):
        engine.draw("?", 1, Sampler(max_tokens=4, json_schema='{"type": "thing"}'))

    assert len(engine.draw("?", 1, Sampler(max_tokens=4)).candidates) == 1
