"""lm-evaluation-harness: its tasks answered by a strategy, as the model `ttscale`.

The harness knows the model once this module is imported; from a shell, in place of `lm_eval`:

    python -m ttscale.integrations.lm_eval run --model ttscale --tasks gsm8k \\
        --model_args strategy=self-consistency,n=8 --apply_chat_template

Tasks that generate text run (`generate_until`). Tasks that compare likelihoods of given texts are
refused: a strategy selects among samples, and a sample's likelihood is not its answer's. Needs the
extra `ttscale[lm-eval]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ttscale import _sync
from ttscale._concurrent import gather
from ttscale.engines import Engine
from ttscale.errors import InvalidInput, MissingDependency
from ttscale.integrations._harness import chosen_text, setup
from ttscale.types import Message, Prompt

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError as error:  # pragma: no cover
    raise MissingDependency(
        "ttscale.integrations.lm_eval needs lm-evaluation-harness: install ttscale[lm-eval]"
    ) from error

__all__ = ["TTScaleLM"]

CONCURRENCY = 8


@register_model("ttscale")
class TTScaleLM(LM):  # type: ignore[misc]
    """A model of the harness whose replies a strategy selects.

    The harness's `temperature` is taken when it asks to sample; greedy decoding, its default,
    leaves the strategy's own. `until`, `max_gen_toks` and `top_p` are taken as they are.

    Args:
        model: Name, folder or hub name; None for the embedded model, or a server's first one.
        base_url: Address of an OpenAI-compatible server; None runs vLLM in this process.
        api_key: Key of the server.
        engine: An engine that is there already, instead.
        concurrency: Requests in work at one time.
        batch_size: The harness gives it; the engine makes its own batches.
        max_batch_size: As `batch_size`.
        device: The harness gives it; vLLM chooses.
        words: Settings of the strategy: strategy, n, temperature, max_tokens, esamp, kind, seed.

    Raises:
        InvalidInput: A setting is unknown or refused.
    """

    tokenizer_name = "ttscale"

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        engine: Engine | None = None,
        concurrency: int = CONCURRENCY,
        batch_size: object = None,  # noqa: ARG002
        max_batch_size: object = None,  # noqa: ARG002
        device: object = None,  # noqa: ARG002
        **words: Any,
    ) -> None:
        super().__init__()
        self._setup = setup(model, base_url, api_key, engine, words)
        self._concurrency = int(concurrency)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The selected reply to each request, cut at its `until`; see `LM.generate_until`."""
        del disable_tqdm
        jobs = [self._reply(str(request.args[0]), request.args[1]) for request in requests]
        texts = _sync.run(gather(jobs, self._concurrency))
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Refused.

        Raises:
            InvalidInput: Always.
        """
        _refuse(requests)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> NoReturn:
        """Refused.

        Raises:
            InvalidInput: Always.
        """
        _refuse(requests)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The turns as JSON: the engine puts them through its model's own template."""
        del add_generation_prompt
        return json.dumps([{"role": t["role"], "content": t["content"]} for t in chat_history])

    async def _reply(self, context: str, asked: Mapping[str, Any]) -> str:
        until = asked.get("until") or []
        stops = tuple(s for s in ([until] if isinstance(until, str) else until) if s)
        outcome = await self._setup.answer(_prompt(context), _settings(asked, stops))
        text = chosen_text(outcome)
        for stop in stops:
            text = text.split(stop)[0]
        return text


def _settings(asked: Mapping[str, Any], stops: tuple[str, ...]) -> dict[str, Any]:
    """The request's settings as a sampler has them."""
    found: dict[str, Any] = {"stop": stops} if stops else {}
    if asked.get("max_gen_toks"):
        found["max_tokens"] = int(asked["max_gen_toks"])
    if asked.get("do_sample"):
        found |= {key: asked[key] for key in ("temperature", "top_p") if key in asked}
    return found


def _prompt(context: str) -> Prompt:
    """Turns, if the harness put them through our template; else raw text."""
    if context.startswith('[{"role"'):
        try:
            turns = json.loads(context)
            return Prompt(tuple(Message(turn["role"], turn["content"]) for turn in turns))
        except (ValueError, KeyError, TypeError):
            pass  # a text that only looks like turns
    return Prompt.raw(context)


def _refuse(requests: Sequence[Any]) -> NoReturn:
    raise InvalidInput(
        f"the model 'ttscale' does not compute likelihoods ({len(requests)} were asked for): a "
        "strategy selects among samples; use a task that generates text (output_type "
        "generate_until), or the harness's own model 'vllm'"
    )


def main() -> None:
    """The harness's own command line, with the model `ttscale` known to it."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
