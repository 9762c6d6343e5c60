"""What an evaluation records of the servers that drew it, and of those that died meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ttscale import cli
from ttscale.evaluation import Problem, Task
from ttscale.evaluation.book import Plan
from ttscale.evaluation.cost import cost_of
from ttscale.evaluation.pool import Pool, PoolWriter, read_pool
from ttscale.evaluation.report.markdown import notes_of
from ttscale.evaluation.runner import Runner
from ttscale.evaluation.samplers import arms
from ttscale.evaluation.suite import open_ended
from ttscale.evaluation.summary import summarise
from ttscale.sampling import Sampler
from ttscale.testing import ScriptedEngine, ScriptedServer
from ttscale.types import Failure, Prompt, Samples

STORIES = Task("stories", tuple(Problem(f"Tell story {i}.", None, str(i)) for i in range(4)))
N = 3


class Dying(ScriptedEngine):
    """An engine over two replicas, of which the first dies under stories 1 and 2.

    Story 1 has a finished sample by then, and story 2 has none and is begun again at once.
    """

    def __init__(self) -> None:
        super().__init__(["Once", "upon", "a time"])
        self.broke = False

    async def adraw(self, prompt: Prompt, n: int, sampler: Sampler, **hooks: object) -> Samples:
        """Draw; the first request for story 1 keeps one sample of its n."""
        found = await super().adraw(prompt, n, sampler, **hooks)  # type: ignore[arg-type]
        if prompt.question.startswith("Tell story 1") and not self.broke:
            self.broke = True
            lost = tuple(Failure(i, "the connection broke") for i in range(1, n))
            return replace(found, candidates=found.candidates[:1], failures=lost, replicas=("a",))
        again = prompt.question.startswith("Tell story 2")
        return replace(found, replicas=("a", "b") if again else ("b",))


async def filled(path: Path, sampler: str, redraws: int) -> tuple[Pool, str]:
    """A pool drawn by `Dying`, read from its file, and its sampler's name."""
    (arm,) = arms([sampler], [1.0], 16)
    plan = Plan((open_ended(STORIES),), (arm,), N, redraws=redraws)
    with PoolWriter(path) as writer:
        await Runner(plan, read_pool(path), writer, QuietHook()).fill()
    return read_pool(path), arm.name


class QuietHook(Dying):
    """`Dying` that tells of no sample before the end, so that what is lost is lost."""

    async def adraw(self, prompt: Prompt, n: int, sampler: Sampler, **_: object) -> Samples:
        """Draw without the hook."""
        return await super().adraw(prompt, n, sampler)


async def test_what_a_dead_replica_did_not_bring_is_drawn_in_the_same_run(tmp_path: Path) -> None:
    """By a new request with a seed of its own, and only what is missing."""
    pool, _ = await filled(tmp_path / "s.jsonl", "esamp", redraws=1)
    mine = [s for s in pool.samples.values() if s.problem == "1"]

    assert len(pool.samples) == 4 * N
    assert [(s.index, s.draw) for s in mine] == [(0, 0), (1, 1), (2, 1)]
    assert len({s.seed for s in mine}) == 2
    assert len(pool.draws) == 5


async def test_without_redraws_it_is_left_for_the_next_run(tmp_path: Path) -> None:
    """As for an engine that is alone: there is nobody else to ask."""
    pool, _ = await filled(tmp_path / "s.jsonl", "esamp", redraws=0)

    assert len(pool.samples) == 4 * N - 2


async def test_lost_distillers_are_counted_in_both_ways(tmp_path: Path) -> None:
    """Begun again as a whole, or completed by another request; and who drew what."""
    pool, name = await filled(tmp_path / "s.jsonl", "esamp", redraws=1)
    cost = cost_of(pool, "stories", name)
    (task,) = summarise(pool, None, 50).tasks

    assert (cost.explored, cost.begun_again, cost.lost_distillers) == (4, 1, 2)
    assert cost.replicas == {"a": 2, "b": 4}
    assert (
        "2 of 4 groups lost their distiller, on 2 replicas: 1 were begun again as a whole, "
        "1 were completed by a later request" in notes_of(task)
    )


async def test_plain_samples_have_no_distiller_to_lose(tmp_path: Path) -> None:
    """The interruption is still told."""
    pool, name = await filled(tmp_path / "s.jsonl", "vanilla", redraws=1)
    cost = cost_of(pool, "stories", name)

    assert (cost.explored, cost.begun_again, cost.lost_distillers, cost.interrupted) == (0, 0, 0, 1)


def test_the_command_line_evaluates_through_servers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--base-url` draws with the server's model and the key of the environment."""
    monkeypatch.setenv("TTSCALE_API_KEY", "sk-s3cret")
    with ScriptedServer(["Once", "Twice"], models=["theirs"], api_key="sk-s3cret") as server:
        args = ["--base-url", server.base_url, "--task", "creative", "--count", "2", "--n", "2"]
        where = ["--sampler", "esamp", "--temperatures", "1", "--no-report", "--out", str(tmp_path)]
        assert cli.main(["eval", *args, *where]) == 0
    pool = read_pool(tmp_path / "samples.jsonl")

    assert len(pool.samples) == 4
    assert pool.runs[0].model == "theirs"
    assert f"--base-url {server.base_url}" in pool.runs[0].command
    assert {draw.replicas for draw in pool.draws} == {(server.base_url,)}
    assert "s3cret" not in (tmp_path / "samples.jsonl").read_text() + capsys.readouterr().err


def test_the_command_line_solves_through_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Any strategy, with the model that the server names first."""
    with ScriptedServer([r"\boxed{7}"], models=["theirs"]) as server:
        code = cli.main(["solve", "What is 3 + 4?", "--n", "2", "--base-url", server.base_url])

    assert code == 0
    assert "7" in capsys.readouterr().out
    assert {request.body["model"] for request in server.posts} == {"theirs"}


def test_a_server_that_is_not_there_is_no_engine(capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands say so with the code for that."""
    gone = ["--base-url", "http://127.0.0.1:9/v1"]

    assert cli.main(["solve", "What is 3 + 4?", *gone]) == 3
    assert cli.main(["eval", "--task", "creative", "--out", "unused", *gone]) == 3
    assert capsys.readouterr().err.count("cannot be reached") == 2
