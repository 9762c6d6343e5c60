"""The report as one self-contained page: no script, nothing loaded, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape as escape_text
from importlib import resources

from ttscale.evaluation.compare import question_of, signed
from ttscale.evaluation.figures import figure
from ttscale.evaluation.report.markdown import notes_of, p_text
from ttscale.evaluation.report.plots import Plot, colour_of
from ttscale.evaluation.report.rows import cost_rows, figure_names, settings_rows
from ttscale.evaluation.report.tables import Ballot, Said, VoteTable
from ttscale.evaluation.stats import Interval
from ttscale.evaluation.summary import Summary, TaskSummary

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for this page: nothing, should a text ever slip through."""


def page(
    summary: Summary,
    plots: Mapping[str, Sequence[Plot]],
    tables: Mapping[str, Sequence[VoteTable]],
) -> str:
    """The whole page."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    tasks = "".join(
        _task(task, plots.get(task.task, ()), tables.get(task.task, ())) for task in summary.tasks
    )
    model = summary.runs[0].model if summary.runs else "unknown model"
    names = ", ".join(task.task for task in summary.tasks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(names)}: {escape(model)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(model)}</h1>\n"
        '<p class="soft">samplers compared by ttscale</p>\n'
        f"{tasks}{_settings(summary)}</main>\n</body>\n</html>\n"
    )


def escape(text: object) -> str:
    """Text that HTML shows as it is; control characters become visible."""
    shown = "".join(
        c if c in "\n\t" or (c.isprintable() and not "\ud800" <= c <= "\udfff") else _visible(c)
        for c in str(text)
    )
    return escape_text(shown)


def _visible(character: str) -> str:
    """A character without a picture: spaces stay spaces, others are spelled."""
    return " " if character.isspace() else f"\\u{ord(character):04x}"


def _task(task: TaskSummary, plots: Sequence[Plot], tables: Sequence[VoteTable]) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in notes_of(task))
    return (
        f"<section>\n<h2>{escape(task.task)}</h2>\n"
        f'<p class="headline">{escape(task.headline).replace("; ", ";<br>")}</p>\n'
        + (f'<p class="soft">{escape(task.power)}</p>\n' if task.power else "")
        + _claims(task)
        + _plots(plots)
        + _figures(task)
        + _compared(task)
        + _votes(task, tables)
        + _cost(task)
        + (f"<h3>Notes</h3>\n<ul>{notes}</ul>\n" if notes else "")
        + "</section>\n"
    )


def _claims(task: TaskSummary) -> str:
    if not task.claims:
        return ""
    rows = [
        (
            _keyed(task, c.family, c.family),
            escape(question_of(c, task.n)),
            escape(signed(c.figure, c.interval, task.n)),
            f"<b>{escape(p_text(c.p_holm))}</b>" if c.shown else escape(p_text(c.p_holm)),
        )
        for c in task.claims
    ]
    head = ("sampler", "compared", "difference", "p (Holm)")
    base = task.claims[0].baseline
    caption = f"What the sentence rests on; against {base}. Bold: a difference is shown"
    return f'<div class="wrap">{_table(caption, head, rows)}</div>'


def _plots(plots: Sequence[Plot]) -> str:
    if not plots:
        return ""
    figures = "".join(
        f"<figure><b>{escape(plot.title)}</b>{plot.svg}"
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>\n"
        for plot in plots
    )
    return f'<div class="plots">\n{figures}</div>\n'


def _figures(task: TaskSummary) -> str:
    names = figure_names(task)
    head = ("sampler @ temperature", *(_label(name, task.n) for name in names))
    rows = [
        (
            _keyed(task, arm.family, arm.sampler),
            *(_value(name, arm.figures[name]) for name in names),
        )
        for arm in task.arms
    ]
    about = "".join(
        f"<li><b>{_label(name, task.n)}</b>: {escape(text.format(n=task.n))}</li>"
        for name in names
        if (text := figure(name).about)
    )
    caption = f"{task.problems} problems, {task.n} samples each; 95 % intervals over problems"
    return (
        "<h3>Figures</h3>\n"
        + _table(caption, head, rows)
        + f"<details><summary>What the figures are</summary><ul>{about}</ul></details>\n"
    )


def _compared(task: TaskSummary) -> str:
    if not task.comparisons:
        return ""
    names = list(dict.fromkeys(c.figure for c in task.comparisons))
    samplers = list(dict.fromkeys(c.sampler for c in task.comparisons))
    found = {(c.sampler, c.figure): c for c in task.comparisons}
    family = {arm.sampler: arm.family for arm in task.arms}
    rows = []
    for sampler in samplers:
        cells = [found[sampler, name] for name in names]
        rows.append(
            (
                _keyed(task, family[sampler], sampler),
                *(
                    f"{escape(signed(c.figure, c.difference.interval, task.n))}"
                    f'<span class="range">p {escape(p_text(c.difference.p_holm))}</span>'
                    for c in cells
                ),
            )
        )
    head = ("sampler", *(_label(name, task.n) for name in names))
    caption = (
        f"Minus {task.claims[0].baseline if task.claims else 'the baseline'} at the same "
        "temperature; intervals of 95 %, p-values by sign flips, corrected together (Holm)"
    )
    return "<h3>What changed between samplers</h3>\n" + _table(caption, head, rows)


def _cost(task: TaskSummary) -> str:
    head, rows = cost_rows(task)
    body = [tuple(escape(entry) for entry in row) for row in rows]
    caption = "Wall time in which a sampler was drawing; its distiller's work is within it"
    return "<h3>Cost</h3>\n" + _table(caption, head, body)


def _settings(summary: Summary) -> str:
    rows = [(escape(name), escape(value)) for name, value in settings_rows(summary)]
    return (
        '<section class="settings">\n<h2>To draw it again</h2>\n'
        + _table("", (), rows)
        + "</section>\n"
    )


def _votes(task: TaskSummary, tables: Sequence[VoteTable]) -> str:
    if not tables:
        return ""
    shown = "".join(_problem(task, table) for table in tables)
    return (
        "<h3>Problems to read</h3>\n"
        f'<p class="soft">{len(tables)} of {task.problems}, those first on which the samplers '
        f"differ most.</p>\n{shown}"
    )


def _problem(task: TaskSummary, table: VoteTable) -> str:
    gold = f'<p class="soft">right answer: {escape(table.gold)}</p>' if table.gold else ""
    ballots = "".join(_ballot(task, ballot) for ballot in table.ballots)
    short = " ".join(table.question.split())
    short = short if len(short) <= 110 else short[:107] + "..."
    tally = ""
    if task.scored:
        counts = ", ".join(str(ballot.right) for ballot in table.ballots)
        tally = f' <span class="soft">right of {task.n}: {counts}</span>'
    return (
        f"<details><summary>{escape(short)}{tally}</summary>\n"
        f'<p class="question">{escape(table.question)}</p>{gold}\n'
        f'<div class="ballots">{ballots}</div></details>\n'
    )


def _ballot(task: TaskSummary, ballot: Ballot) -> str:
    bars = "".join(
        f'<div class="vote{" right" if vote.right else ""}"><span>{escape(vote.answer)}</span>'
        f'<span class="bar" style="width:{50 * vote.count / task.n:.1f}%"></span>'
        f"<span>{vote.count}</span></div>"
        for vote in ballot.votes
    )
    silent = f'<p class="soft">{ballot.silent} state no answer</p>' if ballot.silent else ""
    said = "".join(_sample(sample) for sample in ballot.said)
    return (
        f"<div><b>{_keyed(task, ballot.family, ballot.sampler)}</b>{bars}{silent}"
        f"<details><summary>{len(ballot.said)} samples</summary>{said}</details></div>"
    )


def _sample(sample: Said) -> str:
    if sample.right is None:
        mark = f"{sample.tokens} tokens"
    else:
        word = "right" if sample.right else "wrong"
        stated = "no answer" if sample.answer is None else sample.answer
        mark = f'<span class="mark-{word}">{word}</span>: {escape(stated)}, {sample.tokens} tokens'
    return f'<div class="soft">{mark}</div><pre>{escape(sample.text)}</pre>'


def _keyed(task: TaskSummary, family: str, text: str) -> str:
    """A sampler's name with its colour in front."""
    return f'<span class="key" style="background:{colour_of(task, family)}"></span>{escape(text)}'


def _label(name: str, n: int) -> str:
    about = figure(name)
    unit = f" ({about.unit})" if about.unit else ""
    return escape(about.label.format(n=n) + unit)


def _value(name: str, found: Interval) -> str:
    about = figure(name)
    return (
        f'{about.show(found.value)}<span class="range">{about.show(found.low)} to '
        f"{about.show(found.high)}</span>"
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already; it scrolls sideways on a small screen."""
    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    first = "".join(f'<th scope="col">{entry}</th>' for entry in head)
    lines = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{x}</td>" for x in row[1:]) + "</tr>\n"
        for row in rows
    )
    top += f"<thead><tr>{first}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{top}\n<tbody>\n{lines}</tbody></table></div>\n'
