"""How likely texts are under a chosen model, remembered on disk so that each is read once."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ttscale import models
from ttscale.errors import InvalidInput, MissingDependency
from ttscale.types import Prompt

LONGEST = 4096
"""Tokens of prompt and text together that a model reads at most, or what it can read if less."""

BATCH_TOKENS = 1024
"""Tokens of one batch: each of them needs a row of logits as wide as the vocabulary."""

Asked = tuple[Prompt, str]
"""A prompt and a text that answers it."""

Likelihood = tuple[float, int]
"""Negative log-likelihood of a text in nats, and the tokens that it is the sum of."""

Reads = Callable[[Sequence[Asked]], list[Likelihood]]


class CausalLM:
    """The likelihood of texts given their prompts, by a model of transformers.

    A conversation goes through the model's own chat template when it has one, else its turns are
    joined by empty lines; the text's tokens follow. No end of text is counted.

    Args:
        name: The embedded model's name, a model folder, or a hub name; loaded on first use.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, asked: Sequence[Asked]) -> list[Likelihood]:
        """Read every text; a text without tokens has the likelihood (0, 0).

        Raises:
            MissingDependency: torch or transformers is not installed.
            ModelNotFound: The name leads to no model.
        """
        tokenizer, model = self._loaded
        limit = min(LONGEST, getattr(model.config, "max_position_embeddings", None) or LONGEST)
        rows = [_row(tokenizer, prompt, text, limit) for prompt, text in asked]
        found: list[Likelihood] = [(0.0, 0)] * len(rows)
        for places in _batches([len(head) + len(tail) for head, tail in rows]):
            told = _read(model, [rows[place] for place in places])
            for place, nll in zip(places, told, strict=True):
                found[place] = (nll, len(rows[place][1]))
        return found

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:  # transformers' classes have no types
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
            from transformers.utils import logging
        except ImportError as error:
            raise MissingDependency(
                "perplexity needs torch and transformers; run pip install torch 'ttscale[embedded]'"
            ) from error
        folder = models.resolve(self.name)
        logging.disable_progress_bar()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = "auto" if device == "cuda" else torch.float32
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot load the model {self.name!r}: {error}") from error
        return tokenizer, model.to(device).eval()


Row = tuple[list[int], list[int]]
"""Tokens of the prompt (at least one) and of the text."""


def _row(tokenizer: Any, prompt: Prompt, text: str, limit: int) -> Row:
    """Tokens of both; of a prompt that is too long the end, of a text the beginning."""
    tail = tokenizer(_sendable(text), add_special_tokens=False)["input_ids"][: limit - 1]
    head = _prompt_tokens(tokenizer, prompt)[-max(1, limit - len(tail)) :]
    return head, tail


def _prompt_tokens(tokenizer: Any, prompt: Prompt) -> list[int]:
    if prompt.text is None and tokenizer.chat_template:
        turns = [{"role": m.role, "content": _sendable(m.content)} for m in prompt.messages]
        shown = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        found = tokenizer(shown, add_special_tokens=False)["input_ids"]
    else:
        parts = [prompt.text] if prompt.text is not None else [m.content for m in prompt.messages]
        plain = "\n\n".join(part for part in parts if part)
        found = tokenizer(_sendable(plain if prompt.text is not None else plain + "\n\n"))[
            "input_ids"
        ]
    if not found:
        found = [tokenizer.bos_token_id or tokenizer.eos_token_id or 0]
    return list(found)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts that are read together: of like length, few enough for the memory."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) + 1) * lengths[place] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _read(model: Any, rows: Sequence[Row]) -> list[float]:
    """Negative log-likelihood of each row's text, in nats; padding stands behind."""
    import torch

    longest = max(len(head) + len(tail) for head, tail in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, (head, tail) in enumerate(rows):
        ids[place, : len(head) + len(tail)] = torch.tensor(head + tail)
        mask[place, : len(head) + len(tail)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    found = []
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask).logits
        for place, (head, tail) in enumerate(rows):
            span = slice(len(head) - 1, len(head) + len(tail) - 1)  # each predicts the next one
            wanted = ids[place, len(head) : len(head) + len(tail)]
            row = logits[place, span].float()
            told = row.gather(1, wanted[:, None])[:, 0] - row.logsumexp(1)
            found.append(-float(told.double().sum()))
    return found


class Remembered:
    """A reader that keeps what it has read in a file (`.npz`), with the model's name.

    Args:
        name: Name of the model.
        reads: What reads new texts; None makes a `CausalLM` of the name.
        path: The file; None remembers nothing. What another model has read is replaced.

    Raises:
        InvalidInput: The file cannot be read.
    """

    def __init__(self, name: str, path: Path | None = None, reads: Reads | None = None) -> None:
        self.name = name
        self._reads: Reads = CausalLM(name) if reads is None else reads
        self._path = path
        self._known: dict[str, Likelihood] = {}
        self._fresh = False
        if path is not None and path.exists():
            held, known = _stored(path)
            self._known = known if held == name else {}

    def __call__(self, asked: Sequence[Asked]) -> list[Likelihood]:
        """Read texts, new ones once."""
        keys = [_key(prompt, text) for prompt, text in asked]
        new = {key: one for key, one in zip(keys, asked, strict=True) if key not in self._known}
        if new:
            told = self._reads(list(new.values()))
            self._known.update(zip(new, told, strict=True))
            self._fresh = True
        return [self._known[key] for key in keys]

    def save(self) -> None:
        """Write the file, if there is something new."""
        if self._path is None or not self._fresh:
            return
        nll, tokens = zip(*self._known.values(), strict=True)
        part = self._path.with_suffix(".part.npz")
        np.savez(
            part,
            model=np.array(self.name),
            keys=np.array(list(self._known)),
            nll=np.array(nll),
            tokens=np.array(tokens),
        )
        part.replace(self._path)  # a reader sees the old file or the new one, never a half
        self._fresh = False


def model_in(path: Path) -> str | None:
    """Name of the model whose readings the file holds; None without a file.

    Raises:
        InvalidInput: The file cannot be read.
    """
    return _stored(path)[0] if path.exists() else None


def _stored(path: Path) -> tuple[str, dict[str, Likelihood]]:
    try:
        with np.load(path, allow_pickle=False) as held:
            told = zip(held["nll"].tolist(), held["tokens"].tolist(), strict=True)
            return str(held["model"]), dict(zip(held["keys"].tolist(), told, strict=True))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidInput(
            f"{str(path)!r} holds no likelihoods ({error}); delete it, and it is made anew"
        ) from error


def _key(prompt: Prompt, text: str) -> str:
    whole = repr((prompt.text, [(m.role, m.content) for m in prompt.messages], text))
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _sendable(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
