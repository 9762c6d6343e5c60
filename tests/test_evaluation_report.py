"""`ttscale eval` and `ttscale report` to the end: folder, figures, the page in a browser."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ttscale.cli import main
from ttscale.cli.engine import EngineFactory
from ttscale.errors import ModelNotFound
from ttscale.evaluation.metrics.embeddings import Vectors
from ttscale.evaluation.pool import NAME, read_pool
from ttscale.evaluation.report import write_report
from ttscale.evaluation.report.html import escape
from ttscale.evaluation.summary import Summary, summarise
from ttscale.testing import ScriptedEngine, candidate

EVIL = "</pre><script>document.title='owned'</script><img src=x onerror=alert(1)> \x1b[31m"
SCRIPT = [candidate(rf"So \boxed{{{i % 5}}}. {EVIL}", logprob=-1.0 - i) for i in range(7)]
VOID = {"meta", "br", "img", "link", "hr"}


def on(engine: ScriptedEngine) -> EngineFactory:
    """A factory that gives this engine, whatever the model."""
    return lambda model: nullcontext(engine)


def questions(folder: Path, count: int = 6) -> str:
    """A file of questions whose answers are 0 to 4."""
    path = folder / "sums.jsonl"
    lines = [json.dumps({"question": f"q{i} <b>&", "answer": i % 5}) for i in range(count)]
    path.write_text("\n".join(lines))
    return str(path)


def evaluate(folder: Path, engine: ScriptedEngine, *more: str) -> int:
    """Run `ttscale eval` on two samplers and two temperatures."""
    return main(
        [
            *("eval", "--task", questions(folder), "--n", "4", "--out", str(folder / "out")),
            *("--sampler", "vanilla", "--sampler", "esamp:beta=0.5", "--temperatures", "0.6,1"),
            *("--embeddings", "none", "--resamples", "100", "--model", "scripted", *more),
        ],
        on(engine),
    )


def words(texts: Sequence[str]) -> Vectors:
    """A stand-in for embeddings: which letters a text holds."""
    found = np.array([[1 + t.count(c) for c in "abcdefg 0123"] for t in texts], dtype=np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """A folder with a pool and the report of it, diversity of meaning included."""
    folder = tmp_path_factory.mktemp("eval")
    assert evaluate(folder, ScriptedEngine(SCRIPT, seed=1), "--no-report") == 0
    pool = read_pool(folder / "out" / NAME)
    summary = summarise(pool, words, 100)
    write_report(folder / "out", pool, summary)
    return folder / "out", summary


def test_one_command_makes_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pool, summary, both reports and plots; the headline and main figures are printed."""
    assert evaluate(tmp_path, ScriptedEngine(SCRIPT, seed=1)) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {NAME, "summary.json", "report.md", "report.html", "plots"}
    out = capsys.readouterr().out
    assert "Against vanilla, on 6 problems x 4 samples" in out
    assert "esamp:beta=0.5@0.6" in out


def test_a_second_run_starts_no_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is stored is not drawn again, and the report does not change."""
    assert evaluate(tmp_path, ScriptedEngine(SCRIPT, seed=1)) == 0
    before = (tmp_path / "out" / "summary.json").read_text()
    again = ScriptedEngine(SCRIPT)
    assert evaluate(tmp_path, again) == 0
    assert again.calls == []
    assert "no engine is started" in capsys.readouterr().err
    out = ["report", str(tmp_path / "out"), "--embeddings", "none", "--resamples", "100"]
    assert main(out) == 0
    assert (tmp_path / "out" / "summary.json").read_text() == before


def test_lost_samples_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code says that the pool is not full, and the next run draws what is missing."""
    assert evaluate(tmp_path, ScriptedEngine([*SCRIPT[:3], ValueError("x")]), "--no-report") == 1
    assert "24 samples could not be drawn" in capsys.readouterr().err
    assert evaluate(tmp_path, ScriptedEngine(SCRIPT), "--no-report") == 0


def test_a_missing_model_is_its_own_exit_code(tmp_path: Path) -> None:
    """Nothing is drawn, and the code says why."""

    def none(model: str) -> nullcontext[ScriptedEngine]:
        raise ModelNotFound("no such model")

    argv = ["eval", "--task", questions(tmp_path), "--out", str(tmp_path / "o"), "--no-report"]
    assert main(argv, none) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sampler", "magic"], "unknown sampler 'magic'"),
        (["--sampler", "esamp:gamma=1"], "no setting 'gamma=1'"),
        (["--temperatures", "warm"], "--temperatures"),
        (["--temperatures", "0"], "temperature must be"),
        (["--n", "0"], "n: "),
        (["--sampler", "vanilla", "--sampler", "vanilla"], "asked for twice"),
        (["--count", "0"], "count"),
    ],
)
def test_bad_arguments_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    """Before anything is drawn, in one line, with exit code 2."""
    argv = ["eval", "--task", questions(tmp_path), "--out", str(tmp_path / "o"), *more]
    engine = ScriptedEngine(SCRIPT)
    assert main(argv, on(engine)) == 2
    assert message in capsys.readouterr().err
    assert engine.calls == []


@pytest.mark.parametrize("flag", ["count", "instruction", "system", "opening", "stop"])
def test_flags_of_a_task_need_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    """What the tasks of a file would not hear is refused, and not passed over in silence."""
    file = tmp_path / "e.toml"
    file.write_text(f"[[task]]\nname = {questions(tmp_path)!r}\n")
    argv = ["eval", "--config", str(file), f"--{flag}", "3", "--out", str(tmp_path / "o")]
    assert main(argv) == 2
    assert f"--{flag} goes with --task; in a file it is a key" in capsys.readouterr().err


def test_opening_and_stop_texts_have_flags(tmp_path: Path) -> None:
    """Samples begin with the one and end at the others, and the command says so again."""
    engine = ScriptedEngine([" 3", " 4"])
    more = ["--opening", "It is", "--stop", ".", "--stop", "\n", "--no-report"]
    assert evaluate(tmp_path, engine, *more) == 0
    assert {call.prompt.prefix for call in engine.calls} == {"It is"}
    assert {call.sampler.stop for call in engine.calls} == {(".", "\n")}
    pool = read_pool(tmp_path / "out" / NAME)
    assert {sample.text for sample in pool.samples.values()} == {"It is 3", "It is 4"}
    assert shlex.join(more[:-1]) in pool.runs[0].command


def test_a_file_declares_an_evaluation(tmp_path: Path) -> None:
    """TOML and YAML say the same; a flag goes over the file; unknown keys are refused."""
    questions(tmp_path)
    toml, yaml = tmp_path / "e.toml", tmp_path / "e.yaml"
    toml.write_text(
        f"n = 2\ntemperatures = [0.7]\nsamplers = ['vanilla']\n[[task]]\n"
        f"name = {str(tmp_path / 'sums.jsonl')!r}\ncount = 2\n"
    )
    yaml.write_text(
        "n: 2\ntemperatures: [0.7]\nsamplers: [vanilla]\ntask:\n"
        f"  - name: {tmp_path / 'sums.jsonl'}\n    count: 2\n"
    )
    for place, file in enumerate((toml, yaml)):
        engine = ScriptedEngine(SCRIPT)
        out = str(tmp_path / f"out{place}")
        argv = ["eval", "--config", str(file), "--n", "3", "--out", out, "--no-report"]
        assert main(argv, on(engine)) == 0
        assert [(call.n, call.sampler.temperature) for call in engine.calls] == [(3, 0.7)] * 2
    toml.write_text("temprature = [1]\n" + toml.read_text())
    argv = ["eval", "--config", str(toml), "--out", str(tmp_path / "x")]
    assert main(argv, on(ScriptedEngine(SCRIPT))) == 2


def test_summary_agrees_with_the_pool(made: tuple[Path, Summary]) -> None:
    """pass@1 is the share of right samples, and every interval holds its figure."""
    folder, summary = made
    pool = read_pool(folder / NAME)
    (task,) = summary.tasks
    for arm in task.arms:
        grades = [g.correct for g in pool.grades.values() if g.sampler == arm.sampler]
        assert arm.figures["pass@1"].value == pytest.approx(np.mean([bool(g) for g in grades]))
        assert arm.figures["pass@n"].value == arm.curves["pass"].mean[-1]
        assert all(f.low <= f.value <= f.high for f in arm.figures.values())
        assert "select:tournament" not in arm.figures  # its judge would ask the model
        assert "select:confidence-vote" not in arm.figures  # no token's own probability is stored
        chosen = arm.figures["select:self-consistency"].value
        assert chosen == pytest.approx(arm.figures["majority@n"].value, abs=0.5)
    plain = json.loads((folder / "summary.json").read_text())
    assert plain["tasks"][0]["headline"] == task.headline
    assert plain["tasks"][0]["arms"][0]["figures"]["vendi"]["low"] >= 1


def test_what_scores_by_log_probabilities_is_left_out_where_a_pool_has_none(tmp_path: Path) -> None:
    """A strategy that could score no sample is named in the notes, and is not said to be wrong."""
    silent = [candidate(rf"So \boxed{{{i % 5}}}.") for i in range(7)]
    assert evaluate(tmp_path, ScriptedEngine(silent)) == 0
    (task,) = json.loads((tmp_path / "out" / "summary.json").read_text())["tasks"]
    for name in ("best-of-n", "weighted-vote", "confidence-vote"):
        assert all(f"select:{name}" not in arm["figures"] for arm in task["arms"])
        assert any(f"{name} was not replayed: the pool lacks" in note for note in task["notes"])
    assert all("select:self-consistency" in arm["figures"] for arm in task["arms"])


def test_two_samplers_of_one_script_show_no_difference(tmp_path: Path) -> None:
    """The sentence is allowed to say no, and does when there is nothing."""
    assert evaluate(tmp_path, ScriptedEngine(SCRIPT), "--no-report") == 0
    (task,) = summarise(read_pool(tmp_path / "out" / NAME), None, 100).tasks
    assert "esamp:beta=0.5: no difference shown" in task.headline
    assert "too narrow" in task.headline
    assert all(claim.interval.value == pytest.approx(0.0) for claim in task.claims)


def test_families_are_compared_at_temperatures_of_both_alone(tmp_path: Path) -> None:
    """A baseline drawn at more temperatures than another sampler is not averaged over them all."""
    drawn = ("vanilla", "0.5,1.5", SCRIPT), ("min-p", "1.5", ["no answer"])
    for sampler, heats, script in drawn:
        argv = ["eval", "--task", questions(tmp_path), "--n", "4", "--out", str(tmp_path / "out")]
        argv += ["--sampler", sampler, "--temperatures", heats, "--model", "scripted"]
        assert main([*argv, "--no-report"], on(ScriptedEngine(script))) == 0
    (task,) = summarise(read_pool(tmp_path / "out" / NAME), None, 100).tasks
    (right,) = (arm.figures["pass@1"].value for arm in task.arms if arm.sampler == "vanilla@1.5")
    (claim,) = (claim for claim in task.claims if claim.figure == "pass@1")
    assert claim.interval.value == pytest.approx(-right)


class Balance(HTMLParser):
    """Collects tags and refuses those that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and what it would load."""
        self.seen.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} has a handler"
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.loads.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself, as in the plots."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()


def test_the_page_is_well_formed_and_loads_nothing(made: tuple[Path, Summary]) -> None:
    """Every tag closes; no script, no image, nothing from elsewhere; model text is text."""
    page = (made[0] / "report.html").read_text()
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert parser.loads == []
    assert not {"script", "img", "iframe", "link"} & set(parser.seen)
    assert parser.seen.count("svg") == 6
    assert "&lt;script&gt;document.title" in page
    assert "\x1b" not in page
    assert re.search(r"url\((?!#)", page) is None


def test_every_text_is_escaped() -> None:
    """Marks of HTML, control characters and halves of surrogate pairs."""
    assert escape("<a href='x'>&\"") == "&lt;a href=&#x27;x&#x27;&gt;&amp;&quot;"
    assert escape("a\x1bb\ud800\nc") == "a\\u001bb\\ud800\nc"


def test_the_markdown_links_plots_that_exist(made: tuple[Path, Summary]) -> None:
    """Six plots as SVG and PNG; model names and notes break no table."""
    text = (made[0] / "report.md").read_text()
    links = re.findall(r"\]\((plots/[^)]+)\)", text)
    assert len(links) == 6
    for link in links:
        assert (made[0] / link).read_text().startswith("<svg")
        assert (made[0] / link).with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def browser() -> str | None:
    """A Chromium on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def browse(page: Path, profile: Path, *more: str) -> str:
    """The tree that Chromium makes of a page, as HTML."""
    command = [
        *(str(browser()), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
        *("--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}"),
        *(*more, page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


needs_browser = pytest.mark.skipif(browser() is None, reason="needs chromium on PATH")


@needs_browser
def test_a_browser_shows_the_page_and_runs_nothing(
    made: tuple[Path, Summary], tmp_path: Path
) -> None:
    """Chromium's own tree holds the tables and plots; the samples' script has not run."""
    shown = browse(made[0] / "report.html", tmp_path)
    title = re.search("<title>(.*?)</title>", shown)
    assert title is not None
    assert title[1].startswith("sums")
    assert shown.count("<svg") == 6
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


MEASURE = """<iframe src="page.html" style="width:390px;height:800px"></iframe><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  for (const part of page.querySelectorAll("details")) part.open = true;
  const root = page.documentElement, table = page.querySelector(".wrap .wide");
  const widths = [root.clientWidth, root.scrollWidth, table.clientWidth, table.scrollWidth];
  document.title = widths.join(" ");
};
</script>"""


@needs_browser
def test_the_page_fits_a_phone(made: tuple[Path, Summary], tmp_path: Path) -> None:
    """At 390 pixels nothing sticks out, unfolded, and what the headline rests on is all seen."""
    page = (made[0] / "report.html").read_text()
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "frame.html").write_text(MEASURE)
    shown = browse(tmp_path / "frame.html", tmp_path / "profile", "--allow-file-access-from-files")
    found = re.search(r"<title>(\d+) (\d+) (\d+) (\d+)</title>", shown)
    assert found is not None
    width, needed, table, wanted = map(int, found.groups())
    assert 300 < width <= 390
    assert needed <= width
    assert wanted <= table


def test_evaluation_stays_light_to_import() -> None:
    """Neither numpy nor matplotlib is loaded by the package, nor by the command's arguments."""
    code = "import ttscale.evaluation, ttscale.cli, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "matplotlib", "torch"} & set(done.stdout.split())
