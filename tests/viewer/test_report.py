"""A report is one file that needs nothing, runs nothing, and gives no secret away."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from ajet.cli import app
from ajet.errors import ConfigError
from ajet.schema.episode import Group
from ajet.schema.task import Task
from ajet.viewer.report.html_text import text_as_html
from ajet.viewer.report.report import write_report
from tests.viewer.run_folders import HOSTILE, RunWriter, an_episode

EMPTY_ELEMENTS = {"meta"}
MAY_STAND = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "pre"),
    *("code", "dl", "dt", "dd", "div", "span", "b", "ul", "li", "table", "tr", "th", "td"),
    *("section", "figure", "figcaption", "svg", "line", "polyline", "text", "circle"),
    *("details", "summary"),
}


class Page(HTMLParser):
    """Elements, their attributes, text, and whether every element is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.text = ""
        self.open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(run, tmp_path) -> Page:
    out = tmp_path / "report.html"
    write_report(run.folder, out)
    page = Page(out.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_it_has_curves_examples_settings_versions_and_the_command(run, tmp_path):
    page = page_of(run, tmp_path)
    for text in (
        *("demo", "Reward", "Best of the last step (3)", "Worst of the first step (1)"),
        *("What is six times seven?", "It is 42.", "ajet.trainer_common.optim.lr", "0.0001"),
        *("ValueError: no", "torch 2.13.0", "git checkout 0123456789abcdef", "--conf x.yaml"),
    ):
        assert text in page.text, text


def test_it_needs_nothing_and_runs_nothing(run, tmp_path):
    page = page_of(run, tmp_path)
    assert page.tags <= MAY_STAND
    assert not {"src", "href", "srcset", "style"} & set(page.attributes)
    assert not [name for name in page.attributes if name.startswith("on")]


def test_it_gives_no_secret_away(run, tmp_path):
    assert "hush" not in page_of(run, tmp_path).text


def test_hostile_text_stays_text(tmp_path):
    run = RunWriter(tmp_path / "demo")
    run.step(1, [Group(task=Task(task_id="task-1"), episodes=[an_episode(0, says=HOSTILE)])])
    page = page_of(run, tmp_path)
    assert page.tags <= MAY_STAND
    assert "<script>window.harmed = 1</script>" in page.text
    for escape in ("\\x1b[31m", "\\u202egnirts", "\\ud800 lone", "\\x00\\r"):
        assert escape in page.text


def test_what_is_missing_is_said(run, tmp_path):
    (run.folder / "config.yaml").unlink()
    (run.folder / "metrics.jsonl").unlink()
    text = page_of(run, tmp_path).text
    assert "settings cannot be shown" in text
    assert "No metrics were recorded." in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no run's folder"):
        write_report(tmp_path, tmp_path / "report.html")


def test_the_command_prints_the_path(run, tmp_path):
    out = tmp_path / "r.html"
    result = CliRunner().invoke(app, ["report", str(run.folder), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(out)
    assert out.is_file()


def test_markup_is_escaped_first():
    assert text_as_html("<b>\u202e&") == '&lt;b&gt;<span class="escape">\\u202e</span>&amp;'


def test_steps_without_a_number_are_gaps_and_are_told(run, tmp_path):
    before = page_of(run, tmp_path)
    with (run.folder / "metrics.jsonl").open("a") as file:
        for step, loss in ((4, "NaN"), (5, "-0.5"), (6, "-0.4"), (7, "Infinity")):
            file.write(f'{{"step": {step}, "policy/loss": {loss}}}\n')
    page = page_of(run, tmp_path)
    assert "policy/loss -0.4 at step 6; no number at 2 other steps" in page.text
    assert "no number" not in before.text
    assert len(page.attributes["points"]) == len(before.attributes["points"]) + 1
