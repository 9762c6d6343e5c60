"""What each way of making the distiller useful early buys, on states of the embedded model.

    python benchmarks/distiller.py            # ten minutes on two cores

Samples of a few prompts are drawn with vLLM, their states are recomputed with transformers, and
every variant learns from the same states in the same order: 16 rows a step, which it predicts
before it learns from them. The figure is the mean of `||hL - f(h1)|| / ||hL||` over rows and
prompts at that step. Prints Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ttscale import LocalEngine, Sampler, models
from ttscale.esamp.ridge import PROJECTION_SEED
from ttscale.esamp.swiglu import SwiGLUDistiller
from ttscale.evaluation import from_reasoning_gym, word_problems
from ttscale.types import Prompt

ROWS, STEPS, MARKS = 16, 96, (1, 2, 4, 8, 16, 32, 64)
STORIES = ("Write a short story about a lighthouse.", "Write a poem about a cat who can fly.")


@dataclass(frozen=True)
class States:
    """One prompt with its samples: (rows, tokens, hidden) each, and where the samples begin."""

    h1: Tensor
    hL: Tensor
    start: int
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """One way of making the closed form."""

    name: str
    ridge: float = 10.0
    bias_ridge: float | None = None
    features: int = 128
    prompt: bool = False
    projection: str = "random"
    forget: float = 1.0


VARIANTS = (
    Variant("ridge 10 (what it was)"),
    Variant("ridge 10, and the prompt's own rows", prompt=True),
    Variant("ridge 10, forgetting 1 % a step", forget=0.99),
    Variant("ridge 100", 100.0),
    Variant("ridge 100, free constant", 100.0, 0.1),
    Variant("**ridge 200, free constant (default)**", 200.0, 0.1),
    Variant("the same, and the prompt's own rows", 200.0, 0.1, prompt=True),
    Variant("ridge 1000, free constant", 1000.0, 0.1),
    Variant("ridge 200, free constant, 64 features", 200.0, 0.1, 64),
    Variant("ridge 200, free constant, 160 features", 200.0, 0.1, 160),
    Variant(
        "ridge 200, free constant, directions of the embeddings", 200.0, 0.1, 128, False, "svd"
    ),
)


def collect() -> tuple[list[States], Tensor]:
    """States of every prompt, and the model's embeddings."""
    questions = [p.question for p in word_problems(4, 5).problems]
    questions += [p.question for p in from_reasoning_gym("gsm_symbolic", 2, seed=3).problems]
    folder = models.resolve(models.EMBEDDED)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    drawn = {}
    with LocalEngine(max_model_len=1024, max_num_seqs=ROWS) as engine:
        for question in (*questions, *STORIES):
            sampler = Sampler(max_tokens=STEPS, seed=0)
            drawn[question] = engine.draw(Prompt.of(question), ROWS, sampler).candidates
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for question, candidates in drawn.items():
        turn = [{"role": "user", "content": question}]
        head = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        start = len(tokenizer(head, add_special_tokens=False).input_ids)
        texts = [head + candidate.text for candidate in candidates]
        found.append(_states(model, tokenizer, texts, start))
    return found, model.get_input_embeddings().weight.detach()


def _states(model: object, tokenizer: object, texts: list[str], start: int) -> States:
    tokenizer.pad_token = tokenizer.eos_token  # type: ignore[attr-defined]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)  # type: ignore[operator]
    with torch.inference_mode():
        out = model.model(**batch, output_hidden_states=True)  # type: ignore[attr-defined]
    lengths = tuple((batch.attention_mask.sum(1) - start).tolist())
    return States(out.hidden_states[1], out.last_hidden_state, start, lengths)


def errors(states: States, variant: Variant, projection: Tensor) -> dict[int, float]:
    """Relative error by step of one prompt."""

    def phi(h1: Tensor) -> Tensor:
        scaled = h1 * (h1.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        return torch.cat([scaled @ projection, torch.ones_like(h1[..., :1])], -1)

    prior = torch.full((projection.shape[1] + 1,), variant.ridge)
    if variant.bias_ridge is not None:
        prior[-1] = variant.bias_ridge
    P, W = prior.reciprocal().diag(), torch.zeros(len(prior), states.hL.shape[-1])

    def learn(X: Tensor, Y: Tensor) -> None:
        nonlocal P, W
        XP = X @ P
        K = torch.linalg.solve(XP @ X.T + torch.eye(len(X)), XP)
        W, P = W + K.T @ (Y - X @ W), (P - K.T @ XP) / variant.forget

    if variant.prompt:
        learn(phi(states.h1[0, : states.start - 1]), states.hL[0, : states.start - 1])
    found = {}
    for step in range(1, max(MARKS) + 1):
        rows = [r for r, length in enumerate(states.lengths) if length > step]
        if len(rows) < ROWS // 2:
            break
        place = states.start + step - 1
        X, Y = phi(states.h1[rows, place]), states.hL[rows, place]
        found[step] = _mean_error(Y, X @ W)
        learn(X, Y)
    return found


def swiglu_errors(states: States) -> dict[int, float]:
    """The paper's distiller on the same states."""
    distiller = SwiGLUDistiller(states.hL.shape[-1], torch.device("cpu"))
    distiller.slots.reserve(1)
    distiller.reset(0, 0)
    found = {}
    for step in range(1, max(MARKS) + 1):
        rows = [r for r, length in enumerate(states.lengths) if length > step]
        if len(rows) < ROWS // 2:
            break
        place = states.start + step - 1
        h1, hL = states.h1[rows, place][None], states.hL[rows, place][None]
        mask = torch.ones(1, len(rows))
        made = distiller.predict(h1)
        found[step] = _mean_error(hL[0], made.hL[0])
        distiller.update(made, hL, mask)
    return found


def _mean_error(truth: Tensor, predicted: Tensor) -> float:
    return float(((truth - predicted).norm(dim=1) / truth.norm(dim=1)).mean())


def line(name: str, every: list[dict[int, float]]) -> str:
    """One row of the table: the mean over the prompts that got so far."""
    cells = []
    for mark in MARKS:
        known = [one[mark] for one in every if mark in one]
        cells.append(f"{sum(known) / len(known):.3f}" if known else "-")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Collect the states and print the table."""
    every, embeddings = collect()
    hidden = embeddings.shape[1]
    draw = torch.Generator().manual_seed(PROJECTION_SEED)
    random = {
        width: torch.randn(hidden, width, generator=draw) / hidden**0.5 for width in (64, 128, 160)
    }
    centred = embeddings[::8] - embeddings.mean(0)
    svd = torch.linalg.svd(centred, full_matrices=False).Vh[:128].T
    print(f"{len(every)} prompts x {ROWS} samples")
    print(f"| variant | {' | '.join(f'step {mark}' for mark in MARKS)} |")
    print("|---" * (len(MARKS) + 1) + "|")
    for variant in VARIANTS:
        projection = svd if variant.projection == "svd" else random[variant.features]
        print(line(variant.name, [errors(states, variant, projection) for states in every]))
    print(line("swiglu (the paper's)", [swiglu_errors(states) for states in every]))


if __name__ == "__main__":
    main()
