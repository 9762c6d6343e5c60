"""A tiny Llama with random weights: starts in seconds and writes nonsense, by the real code."""

from __future__ import annotations

import shutil
from pathlib import Path

from ttscale import models

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)
SEED = 0


def make_tiny_llama(folder: Path, *, hidden: int = 128, layers: int = 2, heads: int = 4) -> Path:
    """Write the model into `folder`, with the embedded model's tokenizer, and return the folder.

    On a CPU vLLM has no attention for heads narrower than 32.

    Raises:
        ModelNotFound: The embedded model is not there and cannot be fetched.
        MissingDependency: transformers or torch is not installed.
    """
    source = Path(models.resolve(models.EMBEDDED))
    import torch
    from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

    known = AutoConfig.from_pretrained(source)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=known.vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
        bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in TOKENIZER:
        if (source / name).is_file():
            shutil.copy(source / name, folder)
    return folder
