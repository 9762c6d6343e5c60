"""Turn the GGUF file of a SmolLM2 model into a model folder.

Run as `python -m ttscale._convert FILE FOLDER`: a process of its own keeps torch out of the caller.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf: Path, target: Path) -> None:
    """Write the weights of `gguf` in bfloat16, with tokenizer and chat template, to `target`.

    Raises:
        ImportError: One of accelerate, gguf, torch and transformers is not installed.
        ValueError: The file holds no chat template.
    """
    import torch
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    source, name = str(gguf.parent), gguf.name
    settings: dict[str, object] = {"gguf_file": name, "dtype": torch.bfloat16}
    # Releases with GgufConfig keep weights packed, and then refuse to save them, unless told.
    if config := getattr(transformers, "GgufConfig", None):
        settings["quantization_config"] = config(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, **settings)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=name)
    if not tokenizer.chat_template:
        raise ValueError(f"{gguf} holds no chat template")
    # GGUF names this rule only as "smollm": digits stand alone. Without it the blanks before a
    # digit are cut otherwise than in training.
    digits, rest = Digits(individual_digits=True), ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence([digits, rest])
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
