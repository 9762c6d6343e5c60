"""Tree of thoughts as a sampler: what it keeps, what it counts, and what it leaves for later."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ttscale import LocalEngine, Prompt, Sampler
from ttscale.errors import EngineStopped, InvalidInput
from ttscale.evaluation import Problem, Task
from ttscale.evaluation.book import Plan
from ttscale.evaluation.cost import cost_of
from ttscale.evaluation.pool import Pool, PoolWriter, read_pool
from ttscale.evaluation.runner import Runner
from ttscale.evaluation.samplers import arms
from ttscale.evaluation.suite import maths
from ttscale.evaluation.trees import VALUE_INSTRUCTION, Trees
from ttscale.testing import Call, ScriptedEngine, candidate
from ttscale.types import Candidate

QUESTION = Prompt.of("What is 1 + 1?")
SUM = maths(Task("sums", (Problem("What is 1 + 1?", "2", "0"),)))
PLANS = ("good plan", "bad plan", "sad plan")


def is_value(prompt: Prompt) -> bool:
    """Whether a draw asks for a value."""
    return prompt.question.startswith(VALUE_INSTRUCTION)


def valued(text: str) -> Candidate:
    """The answer to a value prompt: Yes for texts with a good plan, else nearly No."""
    yes = 0.9 if "good" in text else 0.1
    return candidate("Yes", top_logprobs={"Yes": math.log(yes), "No": math.log(1 - yes)})


def script(prompt: Prompt, index: int) -> Candidate:
    """Values for value prompts; else first thoughts, and after these endings."""
    if is_value(prompt):
        return valued(prompt.question.partition("Proposed solution:")[2])
    if not prompt.prefix:
        return candidate(f"{PLANS[index % 3]}\n\n", token_count=2, logprob=-1.0)
    return candidate(f"so {index}", token_count=3, logprob=-1.0)


def first_thoughts(engine: ScriptedEngine) -> list[Call]:
    """The draws with which trees began."""
    return [c for c in engine.calls if not c.prompt.prefix and not is_value(c.prompt)]


async def test_the_samples_are_what_the_best_valued_branches_end_with() -> None:
    """Both texts of the tree go on from the thought that the model valued, none from the others."""
    told: list[Candidate] = []
    trees = Trees(breadth=2, expand=3).on(ScriptedEngine(script))
    found = await trees.adraw(QUESTION, 2, Sampler(seed=1), on_candidate=told.append)

    assert [c.index for c in found.candidates] == [0, 1]
    assert len({c.text for c in found.candidates}) == 2
    assert all(c.text.startswith("good plan\n\nso") for c in found.candidates)
    assert [(c.token_count, c.logprob) for c in found.candidates] == [(5, -2.0)] * 2
    assert tuple(told) == found.candidates


async def test_every_thought_and_value_is_counted() -> None:
    """Usage holds what was dropped and what was judged, not only the texts that are left."""
    engine = ScriptedEngine(script)
    found = await Trees(breadth=2, expand=3).on(engine).adraw(QUESTION, 2, Sampler(seed=1))
    values = [call for call in engine.calls if is_value(call.prompt)]
    thoughts = [call for call in engine.calls if not is_value(call.prompt)]

    assert [call.n for call in thoughts] == [6, 3, 3]  # after the good plan, and the next best
    assert len(values) == 6 + 6
    assert found.usage.completion_tokens == 6 * 2 + 6 * 3 + len(values)
    assert found.usage.prompt_tokens > 0


async def test_more_samples_than_a_tree_has_grow_more_trees() -> None:
    """Five samples of breadth two are three trees, of other seeds; the last one is smaller."""
    engine = ScriptedEngine(script)
    found = await Trees(breadth=2, expand=3).on(engine).adraw(QUESTION, 5, Sampler(seed=1))
    first = first_thoughts(engine)

    assert [c.index for c in found.candidates] == [0, 1, 2, 3, 4]
    assert [call.n for call in first] == [6, 6, 3]
    assert len({call.sampler.seed for call in first}) == 3


async def test_equal_texts_fail_with_the_reason() -> None:
    """A tree that ends with one text gives one sample, and says why the other is missing."""
    trees = Trees(breadth=2).on(ScriptedEngine(["the same"]))
    found = await trees.adraw(QUESTION, 2, Sampler(seed=1))

    assert (found.requested, len(found.candidates)) == (2, 1)
    assert [f.reason for f in found.failures] == ["the tree ended with fewer texts"]


def test_settings_are_refused_by_name() -> None:
    """At the command line's door, with what is legal."""
    with pytest.raises(InvalidInput, match=r"tree:breadth must be a whole number of at least 1"):
        arms(["tree:breadth=0"], [1.0], 32)
    with pytest.raises(InvalidInput, match="its settings: breadth, expand, step_tokens"):
        arms(["tree:depth=2"], [1.0], 32)


async def filled(path: Path, engine: ScriptedEngine) -> Pool:
    """A pool of one problem, four samples by trees of two texts."""
    plan = Plan((SUM,), arms(["tree:breadth=2,expand=3"], [1.0], 32), 4, seed=3)
    with PoolWriter(path) as writer:
        await Runner(plan, read_pool(path), writer, engine).fill()
    return read_pool(path)


async def test_a_pool_holds_the_texts_and_the_whole_cost(tmp_path: Path) -> None:
    """The arm's settings are kept, and its cost is more than the length of its samples."""
    pool = await filled(tmp_path / "s.jsonl", ScriptedEngine(script))
    (arm,) = pool.samplers.values()
    cost = cost_of(pool, "sums", arm.sampler)

    assert arm.family == "tree:breadth=2,expand=3"
    assert (arm.settings["breadth"], arm.settings["step_tokens"]) == (2, 64)
    assert len(pool.samples) == 4
    assert cost.completion_tokens == pool.draws[0].completion_tokens
    assert cost.completion_tokens > sum(s.tokens for s in pool.samples.values())


async def test_an_interrupted_tree_is_grown_again(tmp_path: Path) -> None:
    """What the finished tree gave is kept; only the rest is drawn in the next run."""
    path = tmp_path / "s.jsonl"
    begun = 0

    def dies(prompt: Prompt, index: int) -> Candidate:
        nonlocal begun
        begun += not prompt.prefix and not is_value(prompt)
        if begun > 6:  # the second tree's first thoughts
            raise EngineStopped("gone")
        return script(prompt, index)

    with pytest.raises(EngineStopped):
        await filled(path, ScriptedEngine(dies))
    held = read_pool(path).samples
    assert {key[3] for key in held} == {0, 1}
    engine = ScriptedEngine(script)
    pool = await filled(path, engine)

    assert len(pool.samples) == 4
    assert all(pool.samples[key] == sample for key, sample in held.items())
    assert [call.n for call in first_thoughts(engine)] == [6]


@pytest.mark.engine
async def test_trees_grow_on_the_real_engine(engine: LocalEngine) -> None:
    """Whole answers by one tree, whose values come from the model's own words."""
    trees = Trees(breadth=3, expand=2, step_tokens=12).on(engine)
    found = await trees.adraw(QUESTION, 3, Sampler(seed=5, max_tokens=36))

    assert len(found.candidates) + len(found.failures) == 3
    assert found.candidates
    assert {c.finish_reason for c in found.candidates} <= {"stop", "length"}
    assert all(c.token_count <= 36 and c.logprob is not None for c in found.candidates)
    assert found.usage.completion_tokens > sum(c.token_count for c in found.candidates)
