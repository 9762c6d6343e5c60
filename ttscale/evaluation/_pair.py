"""Two models that read the same tokens: what contrastive decoding writes with.

Tensor code over transformers, imported on use alone: vLLM cannot run two models in one step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from ttscale import models
from ttscale.errors import InvalidInput, ModelNotFound
from ttscale.sampling import Sampler
from ttscale.types import Candidate, Failure, Prompt

Tell = Callable[[Candidate | Failure], None]


def contrast(expert: Tensor, amateur: Tensor, alpha: float, beta: float) -> Tensor:
    """Scores `(1 + beta) log p_expert - beta log p_amateur` of the plausible tokens.

    Args:
        expert: Logits (rows, vocabulary).
        amateur: Logits, same shape.
        alpha: A token is plausible if the expert gives it at least this share of its likeliest
            token's probability (Li et al., Eq. 2).
        beta: Weight of the contrast (O'Brien & Lewis, Eq. 3).

    Returns:
        Scores, same shape, float32; what is not plausible has -inf.
    """
    good, poor = expert.float().log_softmax(dim=-1), amateur.float().log_softmax(dim=-1)
    plausible = good >= good.amax(dim=-1, keepdim=True) + math.log(alpha)
    return (good + beta * (good - poor)).masked_fill(~plausible, -torch.inf)


def check(expert: str, amateur: str) -> None:
    """Raise InvalidInput unless both models have one vocabulary.

    Raises:
        ModelNotFound: A name leads to no model.
    """
    words = [_tokenizer(models.resolve(name)).get_vocab() for name in (expert, amateur)]
    if words[0] != words[1]:
        differing = len(dict(words[0].items() ^ words[1].items()))
        raise InvalidInput(
            f"contrastive decoding needs two models of one vocabulary, but {differing} tokens of "
            f"{expert!r} and {amateur!r} differ; choose an amateur of the expert's own family"
        )


class Pair:
    """An expert and an amateur, and the expert's tokenizer and chat template.

    Args:
        expert: Model folder or hub name.
        amateur: Another one, of the same vocabulary.

    Raises:
        ModelNotFound: One cannot be loaded.
    """

    def __init__(self, expert: str, amateur: str) -> None:
        self._tokenizer = _tokenizer(expert)
        self._models = [_model(name) for name in (expert, amateur)]
        configs = [model.config.get_text_config() for model in self._models]
        # heads may be padded differently
        self._vocabulary = min(int(config.vocab_size) for config in configs)
        self._longest = min(int(config.max_position_embeddings) for config in configs)
        told = self._models[0].generation_config.eos_token_id
        ends = [*(told if isinstance(told, list) else [told]), self._tokenizer.eos_token_id]
        self._ends = sorted({int(end) for end in ends if end is not None})

    def tokens(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt; conversations go through the expert's chat template.

        Raises:
            InvalidInput: It is too long for one of the models.
        """
        if prompt.text is not None:
            ids = list(self._tokenizer.encode(prompt.text + prompt.prefix))
        else:
            turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
            ids = list(self._tokenizer.encode(text + prompt.prefix, add_special_tokens=False))
        if len(ids) >= self._longest:
            raise InvalidInput(
                f"the prompt has {len(ids)} tokens, and the models read at most {self._longest}"
            )
        return ids

    @torch.inference_mode()
    def write(
        self,
        ids: Sequence[int],
        n: int,
        sampler: Sampler,
        weights: tuple[float, float],
        tell: Tell,
        stopped: Callable[[], bool],
    ) -> None:
        """Write `n` samples of a prompt together, each from a seed of its own.

        Args:
            ids: The prompt.
            n: Number of samples.
            sampler: Temperature, lengths, stop texts and seed are taken from it.
            weights: alpha and beta of `contrast`.
            tell: Called with each sample, or why there is none, as it ends.
            stopped: Asked before each token whether to give up.
        """
        longest = min(sampler.max_tokens, self._longest - len(ids))
        rows = [_Row(index, _generator(sampler.seed, index)) for index in range(n)]
        readers = [_Reader(model, self._vocabulary) for model in self._models]
        logits = [reader.begin(ids, n) for reader in readers]
        while rows and not stopped():
            if len(rows[0].tokens) < sampler.min_tokens:
                ends = torch.tensor(self._ends, dtype=torch.long, device=logits[0].device)
                logits[0] = logits[0].index_fill(1, ends, -torch.inf)
            scores = contrast(logits[0], logits[1], *weights).cpu()
            kept = []
            for place, row in enumerate(rows):
                ended = self._extend(row, scores[place], sampler, longest)
                if ended is None:
                    kept.append(place)
                else:
                    tell(ended)
            rows = [rows[place] for place in kept]
            if rows:
                last = [row.tokens[-1] for row in rows]
                logits = [reader.step(kept, last) for reader in readers]

    def _extend(
        self, row: _Row, scores: Tensor, sampler: Sampler, longest: int
    ) -> Candidate | Failure | None:
        """Give a row its next token; what it comes to if it ends with that, else None."""
        if not bool(scores.amax().isfinite()):
            return Failure(row.index, "its scores are not finite")
        row.add(scores, sampler.temperature)
        if row.tokens[-1] in self._ends:
            return self._candidate(row, self._text(row), "stop")
        if sampler.stop and (cut := _stopped(text := self._text(row), sampler)) is not None:
            return self._candidate(row, text[:cut], "stop")
        if len(row.tokens) >= longest:
            return self._candidate(row, self._text(row), "length")
        return None

    def _text(self, row: _Row) -> str:
        return str(self._tokenizer.decode(row.tokens, skip_special_tokens=True))

    def _candidate(self, row: _Row, text: str, reason: str) -> Candidate:
        return Candidate(row.index, text, len(row.tokens), reason, row.logprob)


@dataclass
class _Row:
    """A sample that is being written."""

    index: int
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0

    def add(self, scores: Tensor, temperature: float) -> None:
        """Draw the next token of the scores' distribution at a temperature; 0 takes the best."""
        if temperature == 0:
            token = int(scores.argmax())
        else:
            chances = (scores / temperature).softmax(dim=-1)
            token = int(torch.multinomial(chances, 1, generator=self.generator))
        self.tokens.append(token)
        self.logprob += float(scores.log_softmax(dim=-1)[token])


class _Reader:
    """One model that reads the rows of one draw, with what it has read in its cache."""

    def __init__(self, model: Any, vocabulary: int) -> None:
        self._model, self._vocabulary = model, vocabulary
        self._cache: Any = None

    def begin(self, ids: Sequence[int], n: int) -> Tensor:
        """Read the prompt once for all rows; next-token logits, (n, vocabulary)."""
        logits = self._read([list(ids)])
        self._cache.batch_repeat_interleave(n)
        return logits.repeat(n, 1)

    def step(self, kept: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Drop the rows that are not kept, and read one token of each of the others."""
        self._cache.batch_select_indices(torch.tensor(kept, device=self._model.device))
        return self._read([[token] for token in tokens])

    def _read(self, rows: list[list[int]]) -> Tensor:
        ids = torch.tensor(rows, device=self._model.device)
        read = self._model(
            input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._cache = read.past_key_values
        logits: Tensor = read.logits[:, -1, : self._vocabulary]
        return logits


def _stopped(text: str, sampler: Sampler) -> int | None:
    """Where a text is cut at the first stop text in it; None when there is none."""
    found = [(text.find(stop), len(stop)) for stop in sampler.stop if stop in text]
    if not found:
        return None
    start, length = min(found)
    return start + length if sampler.include_stop else start


def _generator(seed: int | None, index: int) -> torch.Generator:
    """Seeds count up from the draw's, so that no sample depends on how many there are."""
    made = torch.Generator()
    if seed is None:
        made.seed()
    else:
        made.manual_seed(seed + index)
    return made


@lru_cache(maxsize=1)
def load(expert: str, amateur: str) -> Pair:
    """The pair of two names, kept while no other one is asked for.

    Raises:
        ModelNotFound: One cannot be loaded.
    """
    return Pair(models.resolve(expert), models.resolve(amateur))


def _tokenizer(folder: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"cannot load the tokenizer of {folder!r}: {error}") from error


def _model(folder: str) -> Any:
    """A model for reading; float32 on a CPU, else of its own type."""
    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: Any = "auto" if device == "cuda" else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"cannot load {folder!r} with transformers: {error}") from error
    return model.to(device).eval()
