"""inspect_ai: its tasks answered by a strategy, as the model provider `ttscale`.

    inspect eval TASK --model ttscale/smollm2-135m-instruct -M strategy=self-consistency -M n=8
    inspect eval TASK --model ttscale/NAME --model-base-url http://127.0.0.1:8000/v1

Each call of the model is one run of the strategy; what it chose and what that cost is in the
output's metadata. Tools are refused. Needs the extra `ttscale[inspect]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttscale.engines import Engine
from ttscale.errors import InvalidInput, MissingDependency
from ttscale.integrations._harness import chosen_text, setup
from ttscale.strategies import Outcome
from ttscale.types import Message, Prompt

try:
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessage,
        ChatMessageAssistant,
        GenerateConfig,
        ModelAPI,
        ModelOutput,
        ModelUsage,
        modelapi,
    )
    from inspect_ai.tool import ToolChoice, ToolInfo
except ImportError as error:  # pragma: no cover
    raise MissingDependency(
        "ttscale.integrations.inspect needs inspect_ai: install ttscale[inspect]"
    ) from error

__all__ = ["TTScaleAPI"]

TAKEN = ("temperature", "top_p", "top_k", "max_tokens", "seed")
STOPS = {"stop": "stop", "length": "max_tokens"}


@modelapi(name="ttscale")
class TTScaleAPI(ModelAPI):  # type: ignore[misc]
    """A model of inspect_ai whose replies a strategy selects.

    Args:
        model_name: Name, folder or hub name of the model behind the strategy.
        base_url: Address of an OpenAI-compatible server; None runs vLLM in this process.
        api_key: Key of the server.
        config: inspect_ai's own settings.
        engine: An engine that is there already, instead.
        words: Settings of the strategy: strategy, n, temperature, max_tokens, esamp, kind, seed.

    Raises:
        InvalidInput: A setting is unknown or refused.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        engine: Engine | None = None,
        **words: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._setup = setup(model_name, base_url, api_key, engine, words)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """One run of the strategy; see `ModelAPI.generate`.

        Raises:
            InvalidInput: Tools were given, or a turn holds something else than text.
            EngineError: No sample came back.
        """
        del tool_choice
        if tools:
            raise InvalidInput(
                f"the model provider 'ttscale' takes no tools, got {tools[0].name!r}; give them to "
                "another provider"
            )
        settings = {k: v for k in TAKEN if (v := getattr(config, k)) is not None}
        if config.stop_seqs:
            settings["stop"] = tuple(config.stop_seqs)
        return self._output(await self._setup.answer(_prompt(input), settings))

    def _output(self, outcome: Outcome) -> ModelOutput:
        chosen = outcome.candidate
        reply = ChatMessageAssistant(
            content=chosen_text(outcome), source="generate", model=self.model_name
        )
        stop = STOPS.get(chosen.finish_reason, "unknown") if chosen is not None else "stop"
        used = outcome.usage
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=reply, stop_reason=stop)],
            usage=ModelUsage(
                input_tokens=used.prompt_tokens,
                output_tokens=used.completion_tokens,
                total_tokens=used.prompt_tokens + used.completion_tokens,
            ),
            metadata={
                "ttscale": {
                    "strategy": outcome.strategy,
                    "answer": outcome.answer,
                    "samples": outcome.spent.samples,
                    "failed": outcome.spent.failed,
                    "judge": outcome.spent.judge,
                    "seconds": round(outcome.spent.seconds, 3),
                    "margin": outcome.margin,
                }
            },
        )


def _prompt(turns: Sequence[ChatMessage]) -> Prompt:
    """The conversation; only text can be drawn from."""
    found = []
    for turn in turns:
        if not isinstance(turn.content, str) and any(part.type != "text" for part in turn.content):
            raise InvalidInput("the model provider 'ttscale' takes text alone, got another content")
        found.append(Message(turn.role, turn.text))
    return Prompt(tuple(found))
