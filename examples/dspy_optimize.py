"""Compile a maths program with DSPy on the embedded model, and score it before and after.

Run `python examples/dspy_optimize.py` (about ten minutes on two cores), or with `--small`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import dspy

from ttscale import ESamp, LocalEngine, Sampler
from ttscale.answers import equivalent
from ttscale.engines import Engine
from ttscale.evaluation import wilson, word_problems
from ttscale.integrations.dspy import ESampLM, ProseAdapter, SelfConsistency

INSTRUCTIONS = "Solve the problem."


def examples(count: int, seed: int) -> list[Any]:
    """Word problems as DSPy examples; another seed gives other problems."""
    problems = word_problems(count, seed).problems
    made = [dspy.Example(question=p.question, answer=p.gold) for p in problems]
    return [example.with_inputs("question") for example in made]


def right(gold: Any, pred: Any, trace: object = None) -> bool:  # noqa: ARG001 - DSPy's metric
    """Whether the answer equals the label by value."""
    return equivalent(str(pred.answer), gold.answer)


def show(name: str, program: Any, devset: Sequence[Any]) -> int:
    """Print how many answers of `program` are right, with the 95 % Wilson interval."""
    result = dspy.Evaluate(devset=devset, metric=right, num_threads=8)(program)
    count = sum(bool(score) for _, _, score in result.results)
    low, high = wilson(count, len(devset))
    print(
        f"{name}: {count}/{len(devset)} right = {count / len(devset):.0%} [{low:.0%}, {high:.0%}]"
    )
    return count


def optimize(engine: Engine, votes: int, train: int, dev: int, programs: int) -> tuple[int, int]:
    """Compile a vote of `votes` samples; the numbers of right answers before and after."""
    lm = ESampLM(engine, sampler=Sampler(temperature=0.7, max_tokens=80), esamp=ESamp(beta=0.25))
    signature = dspy.Signature("question -> answer", INSTRUCTIONS)
    program = SelfConsistency(dspy.ChainOfThought(signature), n=votes, kind="number")
    trainset, devset = examples(train, seed=0), examples(dev, seed=1)
    # Among the programs that it compares on the development set is the uncompiled one.
    limits = {"max_bootstrapped_demos": 2, "max_labeled_demos": 2, "num_threads": 8}
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=right, num_candidate_programs=programs, **limits
    )
    with dspy.context(lm=lm, adapter=ProseAdapter("number")):
        before = show("before", program, devset)
        compiled = optimizer.compile(program, trainset=trainset, valset=devset)
        after = show("after ", compiled, devset)
    print(f"n = {votes} votes per question; the program was chosen on these {dev} questions")
    return before, after


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example on the embedded model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a run of about a minute")
    small = parser.parse_args(arguments).small
    dspy.configure_cache(enable_disk_cache=False)  # each run draws its own samples
    with LocalEngine(max_model_len=1024, max_num_seqs=32) as engine:
        if small:
            optimize(engine, votes=3, train=4, dev=4, programs=0)
        else:
            optimize(engine, votes=8, train=14, dev=28, programs=1)


if __name__ == "__main__":
    main()
