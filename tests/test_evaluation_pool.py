"""The pool of samples: what survives a death in mid-write, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ttscale.errors import InvalidInput
from ttscale.evaluation.pool import PoolWriter, read_pool
from ttscale.evaluation.records import (
    DrawRecord,
    GradeRecord,
    ProblemRecord,
    Record,
    RunRecord,
    SampleRecord,
    SamplerRecord,
    from_json,
    to_json,
)


def sample(index: int, text: str = "It is 7.") -> SampleRecord:
    """One sample of one problem."""
    return SampleRecord("t", "p", "vanilla@1", index, 0, 5, text, 3, "stop", -1.5, 0.25, 100.0)


EVERY_KIND: tuple[Record, ...] = (
    RunRecord("m", 1, {"python": "3.11"}, {"tasks": {}}, "ttscale eval", 100.0),
    ProblemRecord("t", "p", "What is 3 + 4?", "7"),
    SamplerRecord("vanilla@1", "vanilla", 1.0, {"temperature": 1.0}),
    sample(0, "lines\nand \u2028 and \ud800"),
    GradeRecord("t", "p", "vanilla@1", 0, "7", "number", "cm", 1.0, True),
    DrawRecord("t", "p", "vanilla@1", 0, 5, 2, 1, 10, 3, 0.5, ("lost",), {"rows_mixed": 1}),
)


def write(path: Path, *records: Record) -> None:
    """Append these records."""
    with PoolWriter(path) as writer:
        for record in records:
            writer.append(record)


@pytest.mark.parametrize("record", EVERY_KIND, ids=lambda record: record.type)
def test_every_record_comes_back_as_it_was(record: Record) -> None:
    """Through JSON and back, whatever the text holds."""
    assert from_json(json.loads(json.dumps(to_json(record)))) == record


def test_a_pool_holds_what_was_written(tmp_path: Path) -> None:
    """All kinds of records, over two sessions."""
    path = tmp_path / "new" / "samples.jsonl"
    write(path, *EVERY_KIND[:3])
    write(path, *EVERY_KIND[3:], sample(1))
    pool = read_pool(path)
    assert [run.model for run in pool.runs] == ["m"]
    assert list(pool.samples) == [("t", "p", "vanilla@1", 0), ("t", "p", "vanilla@1", 1)]
    assert pool.grades["t", "p", "vanilla@1", 0].correct is True
    assert pool.draws == [EVERY_KIND[5]]


def test_no_file_is_an_empty_pool(tmp_path: Path) -> None:
    """Before the first run there is nothing to continue."""
    assert read_pool(tmp_path / "samples.jsonl").samples == {}


def test_a_line_torn_at_any_byte_costs_that_sample_alone(tmp_path: Path) -> None:
    """Wherever the last write stopped, the others are read, and the next writer goes on well."""
    whole = tmp_path / "whole.jsonl"
    write(whole, sample(0), sample(1))
    content = whole.read_bytes()
    first = content.index(b"\n") + 1
    for end in range(first, len(content)):
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(content[:end])
        before = read_pool(torn)
        write(torn, sample(2))
        after = read_pool(torn)
        kept = 2 if end == len(content) - 1 else 1
        assert len(before.samples) == kept
        assert {key[3] for key in after.samples} == {0, 2, *range(kept)}
        assert len(torn.read_bytes().splitlines()) == kept + 1
        torn.unlink()


def test_a_long_torn_line_is_taken_away(tmp_path: Path) -> None:
    """Also one that is longer than what is looked at in one piece."""
    path = tmp_path / "samples.jsonl"
    write(path, sample(0), sample(1, "x" * 200_000))
    path.write_bytes(path.read_bytes()[:-10])
    write(path, sample(2))
    assert [key[3] for key in read_pool(path).samples] == [0, 2]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    """That is no torn write, and guessing would lose samples unseen."""
    path = tmp_path / "samples.jsonl"
    write(path, sample(0), sample(1))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:40] + b"\n" + lines[1])
    with pytest.raises(InvalidInput, match="line 1 is no record"):
        read_pool(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "known 'type'"),
        ('{"type": "poem"}', "known 'type'"),
        ('{"type": "problem", "task": "t"}', "incomplete"),
        ('{"type": "problem", "task": "t", "problem": "p", "question": "q", "x": 1}', "'x'"),
    ],
)
def test_foreign_records_are_refused(tmp_path: Path, line: str, message: str) -> None:
    """A file that is no pool says so, with its line."""
    path = tmp_path / "samples.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InvalidInput, match=message):
        read_pool(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    """A pool of a later version is not read as one of this version."""
    path = tmp_path / "samples.jsonl"
    write(path, RunRecord("m", 1, {}, {}, "", 0.0, format=2))
    with pytest.raises(InvalidInput, match="format 2"):
        read_pool(path)


def test_two_writers_exclude_each_other(tmp_path: Path) -> None:
    """A second run into one folder would mix its lines with the first one's."""
    path = tmp_path / "samples.jsonl"
    with PoolWriter(path), pytest.raises(InvalidInput, match="another process"):
        PoolWriter(path)
    write(path, sample(0))
    assert len(read_pool(path).samples) == 1


def test_a_sample_written_twice_is_one_sample(tmp_path: Path) -> None:
    """The first one stands; a later grade replaces an earlier one."""
    path = tmp_path / "samples.jsonl"
    grades = [GradeRecord("t", "p", "vanilla@1", 0, a) for a in ("7", "8")]
    write(path, sample(0, "first"), sample(0, "second"), *grades)
    pool = read_pool(path)
    assert [s.text for s in pool.samples.values()] == ["first"]
    assert [g.answer for g in pool.grades.values()] == ["8"]
