"""Logs of inspect_ai (`.eval`, `.json`), read and written by its own functions.

One log a task and sampler; a problem is a sample there, and our samples of it are its epochs.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ttscale.errors import InvalidInput, MissingDependency
from ttscale.evaluation.exchange import (
    OWN,
    Converted,
    Group,
    foreign_run,
    foreign_sampler,
    groups,
    header_of,
    own_sample,
    sample_of,
    shown,
    slug,
)
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.prompts import prompt_of
from ttscale.evaluation.records import (
    DrawRecord,
    GradeRecord,
    ProblemRecord,
    Record,
    SampleRecord,
)
from ttscale.types import Prompt

LOST = (
    "the cost of each request and what ESamp did (the pool's draw records) are left out",
    "halves of surrogate pairs, which are no characters, are spelled out",
)
LOST_FOREIGN = (
    "of each epoch the last output's text was taken: tools, earlier turns and events stay behind",
)
FAILED = "epochs that ended in an error were left out"
STOPS = {"stop": "stop", "length": "max_tokens"}
WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""inspect_ai's words for scores: correct, partial, incorrect, no answer."""


def export(pool: Pool, folder: Path) -> Converted:
    """Write a pool's samples: one `.eval` log for each task and sampler.

    Raises:
        InvalidInput: The pool is empty, or the folder cannot be written.
        MissingDependency: inspect_ai is not installed.
    """
    log = _inspect()
    files = []
    for group in groups(pool):
        stamp = datetime.fromtimestamp(group.run.at, UTC)
        name = f"{stamp:%Y-%m-%dT%H-%M-%S}_{slug(group.task)}_{slug(group.sampler.sampler)}.eval"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            log.write_eval_log(_log(pool, group, stamp), str(folder / name))
        except OSError as error:
            raise InvalidInput(f"cannot write to {str(folder)!r}: {error}") from error
        files.append(folder / name)
    return Converted(files=tuple(files), lost=LOST)


def load(path: Path) -> Converted:
    """Read one log.

    Raises:
        InvalidInput: The file is no log, or holds no sample.
        MissingDependency: inspect_ai is not installed.
    """
    log = _inspect()
    try:
        found = log.read_eval_log(str(path), resolve_attachments=True)
    except Exception as error:  # a foreign reader of a foreign file
        raise InvalidInput(f"{str(path)!r} is no log of inspect_ai: {error}") from error
    if not found.samples:
        raise InvalidInput(f"{str(path)!r} holds no sample (status: {found.status})")
    own = (found.eval.metadata or {}).get(OWN)
    return _own(found, own) if isinstance(own, Mapping) else _foreign(found)


def _inspect() -> Any:  # its types are the other package's
    try:
        from inspect_ai import log
    except ImportError as error:
        raise MissingDependency(
            "logs of inspect_ai need inspect-ai; run pip install 'ttscale[inspect]'"
        ) from error
    return log


def _log(pool: Pool, group: Group, stamp: datetime) -> Any:
    log = _inspect()
    told = [
        grade.correct
        for _, pairs in group.problems
        for _, grade in pairs
        if grade is not None and grade.correct is not None
    ]
    names = [problem.problem for problem, _ in group.problems]
    epochs = max(len(pairs) for _, pairs in group.problems)
    samples = [
        _sample(pool, group, problem, pair, epoch)
        for problem, pairs in group.problems
        for epoch, pair in enumerate(pairs, start=1)
    ]
    scores = []
    if told:
        accuracy = log.EvalMetric(name="accuracy", value=sum(told) / len(told))
        scores = [log.EvalScore(name=OWN, scorer=OWN, metrics={"accuracy": accuracy})]
    spec = log.EvalSpec(
        eval_id=uuid.uuid4().hex,
        run_id=uuid.uuid4().hex,
        task_id=uuid.uuid4().hex,
        created=stamp.isoformat(),
        task=group.task,
        dataset=log.EvalDataset(name=group.task, samples=len(names), sample_ids=names),
        model=f"{OWN}/{group.run.model}",
        model_args={"sampler": group.sampler.sampler},
        config=log.EvalConfig(epochs=epochs),
        metadata={OWN: group.own()},
    )
    results = log.EvalResults(
        total_samples=len(samples), completed_samples=len(samples), scores=scores
    )
    return log.EvalLog(status="success", eval=spec, results=results, samples=samples)


def _sample(
    pool: Pool,
    group: Group,
    problem: ProblemRecord,
    pair: tuple[SampleRecord, GradeRecord | None],
    epoch: int,
) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessageAssistant,
        ModelOutput,
        ModelUsage,
    )
    from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score

    sample, grade = pair
    prompt = prompt_of(pool, problem)
    reply = ChatMessageAssistant(content=sample.text, source="generate", model=group.run.model)
    stop = STOPS.get(sample.finish, "unknown")
    usage = ModelUsage(output_tokens=sample.tokens, total_tokens=sample.tokens)
    scores = None
    if grade is not None and grade.correct is not None:
        word = CORRECT if grade.correct else NOANSWER if grade.answer is None else INCORRECT
        scores = {OWN: Score(value=word, answer=grade.answer)}
    return EvalSample(
        id=problem.problem,
        epoch=epoch,
        input=problem.question,
        target=problem.gold or "",
        messages=[*_turns(prompt), reply],
        output=ModelOutput(
            model=group.run.model,
            choices=[ChatCompletionChoice(message=reply, stop_reason=stop)],
            usage=usage,
            time=sample.seconds,
        ),
        scores=scores,
        metadata={OWN: own_sample(sample, grade)},
        model_usage={f"{OWN}/{group.run.model}": usage},
        total_time=sample.seconds,
    )


def _turns(prompt: Prompt) -> list[Any]:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    if prompt.text is not None:
        return [ChatMessageUser(content=prompt.text)]
    kinds: dict[str, Any] = {"system": ChatMessageSystem, "assistant": ChatMessageAssistant}
    return [kinds.get(m.role, ChatMessageUser)(content=m.content) for m in prompt.messages]


def _own(found: Any, told: Mapping[str, Any]) -> Converted:
    """What a log that ttscale wrote was made of."""
    task = str(found.eval.task)
    records = header_of(told)
    name = str(told["sampler"]["sampler"])
    for sample in found.samples:
        problem = str(sample.id)
        question = sample.input if isinstance(sample.input, str) else ""
        records.append(ProblemRecord(task, problem, question, sample.target or None))
        noted = sample.metadata.get(OWN)
        if not isinstance(noted, Mapping):
            raise InvalidInput(f"sample {problem!r} lost what ttscale noted of it")
        records += sample_of((task, problem, name), sample.output.completion, noted)
    return Converted(tuple(records), lost=LOST)


def _foreign(found: Any) -> Converted:
    task, model = str(found.eval.task).rpartition("/")[2], str(found.eval.model)
    asked: dict[str, Any] = {}
    for config in (found.plan.config, found.eval.model_generate_config):  # the call's come last
        asked |= config.model_dump(exclude_none=True)
    sampler = foreign_sampler(model, float(asked.get("temperature", 1.0)), asked)
    kept = [sample for sample in found.samples if sample.error is None]
    lost = [*LOST_FOREIGN, *([FAILED] if len(kept) < len(found.samples) else [])]
    scored = any(_score(sample)[0] is not None for sample in kept)
    records: list[Record] = [foreign_run(model, task, scored, "inspect_ai"), sampler]
    for sample in kept:
        problem = ProblemRecord(task, str(sample.id), _asked(sample), _target(sample.target))
        records.append(problem)
        records += _epoch(sample, problem, sampler.sampler)
    records += _draws(kept, task, sampler.sampler)
    return Converted(tuple(records), lost=tuple(lost))


def _epoch(sample: Any, problem: ProblemRecord, sampler: str) -> list[Record]:
    """Sample and grade of one epoch."""
    choice = sample.output.choices[0] if sample.output.choices else None
    stop = "unknown" if choice is None else str(choice.stop_reason)
    finish = {"max_tokens": "length", "model_length": "length"}.get(stop, stop)
    tokens = sample.output.usage.output_tokens if sample.output.usage else 0
    logprob = None
    if choice is not None and choice.logprobs is not None:
        logprob = float(sum(token.logprob for token in choice.logprobs.content))
    key = (problem.task, problem.problem, sampler, sample.epoch - 1)
    seconds = float(sample.total_time or 0.0)
    at = datetime.fromisoformat(sample.completed_at).timestamp() if sample.completed_at else 0.0
    score, answer = _score(sample)
    kind = "text" if answer is not None else ""
    correct = None if score is None else score >= 1
    return [
        SampleRecord(*key, 0, 0, sample.output.completion, tokens, finish, logprob, seconds, at),
        GradeRecord(*key, answer, kind, None, score, correct),
    ]


def _draws(samples: Sequence[Any], task: str, sampler: str) -> list[DrawRecord]:
    """The tokens that each problem's epochs have read and written, as one request each."""
    by_problem: dict[str, list[Any]] = {}
    for sample in samples:
        by_problem.setdefault(str(sample.id), []).append(sample)
    found = []
    for name, epochs in by_problem.items():
        usages = [use for epoch in epochs for use in epoch.model_usage.values()]
        read = sum(use.input_tokens for use in usages)
        written = sum(use.output_tokens for use in usages)
        seconds = sum(float(epoch.total_time or 0.0) for epoch in epochs)
        count = len(epochs)
        found.append(DrawRecord(task, name, sampler, 0, 0, count, count, read, written, seconds))
    return found


def _score(sample: Any) -> tuple[float | None, str | None]:
    """Value in [0, 1] and answer of the first scorer; None where it says nothing we can read."""
    if not sample.scores:
        return None, None
    first = next(iter(sample.scores.values()))
    answer = None if first.answer is None else str(first.answer)
    if isinstance(first.value, str):
        return WORDS.get(first.value), answer
    if isinstance(first.value, bool | int | float) and first.value == first.value:
        return float(first.value), answer
    return None, answer


def _asked(sample: Any) -> str:
    """The question: a text, or the turns as one text."""
    if isinstance(sample.input, str):
        return sample.input
    from ttscale.types import Message

    turns = tuple(Message(turn.role, turn.text) for turn in sample.input)
    return turns[0].content if len(turns) == 1 else shown(Prompt(turns))


def _target(target: str | list[str]) -> str | None:
    text = target if isinstance(target, str) else " ".join(target)
    return text or None
