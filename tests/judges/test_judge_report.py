"""`ajet judge`: what it measures, on labelled samples.

1. Accuracy, Spearman and kappa agree with values computed by hand; intervals contain them.
2. A judge that contradicts itself, prefers the first place, or prefers long answers is found out.
3. Costs are those of the calls; the second time everything comes from disk, also `--offline`.
4. What failed is named and counts for nothing. Wrong files and options are one sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ajet.cli import app
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError, DataError
from ajet.replay.agreement import kappa, mean, share, spearman
from ajet.replay.judge_report import JudgeReport, judge_report, read_labelled
from tests.judges.judged_rollouts import config_of, place  # noqa: F401
from tests.judges.knowing_model import material
from tests.judges.model_server import Body, Reply, Script, serving

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("place")]


def labelled(folder: Path, rows: list[tuple[str, str, Any]]) -> Path:
    path = folder / "labelled.jsonl"
    lines = [{"main_query": q, "final_answer": a, "score": s} for q, a, s in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def scoring(score: Any) -> Script:
    """Scores each answer by a function of its text and the number of the call."""

    def script(body: Body, number: int) -> Reply:
        inside, _ = material(body)
        return Reply(content=json.dumps({"reason": "so", "score": score(inside["answer"], number)}))

    return script


def report(config: RootConfig, path: Path, **options: Any) -> JudgeReport:
    return judge_report(config, read_labelled(path), **options)


def test_agreement_is_that_of_the_textbook():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa 0.4.
    one = [True] * 25 + [False] * 25
    other = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    found = kappa(one, other)
    assert found.value == pytest.approx(0.4)
    assert found.low is not None and found.high is not None
    assert 0.1 < found.low < 0.4 < found.high < 0.65
    ranked = spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert ranked.value == pytest.approx(0.8)
    third = share(8, 10)
    assert (third.low, third.high) == (
        pytest.approx(0.490, abs=1e-3),
        pytest.approx(0.943, abs=1e-3),
    )
    assert mean([1, 2, 3]).value == 2


@pytest.mark.parametrize("found", [spearman([1, 1], [1, 2]), kappa([True] * 3, [True] * 3)])
def test_what_cannot_be_computed_is_no_number(found):
    assert found.value is None and found.why_not == "all values are the same"
    assert share(0, 0).value is None and mean([]).value is None


def test_a_good_judge_is_measured_as_one_and_offline_the_second_time(tmp_path):
    rows = [(f"q{i}", f"answer {i}", i % 2) for i in range(20)]
    path = labelled(tmp_path, rows)
    with serving(scoring(lambda text, _: 10 * (int(text.split()[1]) % 2))) as server:
        config = config_of(tmp_path, server, judge_type="llm")
        first = report(config, path, repeats=2)
        assert len(server.requests) == 40
        second = report(config, path, repeats=2, offline=True)
        assert len(server.requests) == 40
    values = {name: estimate.value for name, estimate in first.estimates.items()}
    assert values["accuracy"] == values["kappa"] == values["spearman"] == 1
    assert values["spread_over_repeats"] == 0 and values["same_success_over_repeats"] == 1
    assert first.cost["calls"] == 1 and first.cost["prompt_tokens"] == 10
    assert second.cost["calls"] == 0 and second.cost["tokens_with_kept"] == 15
    assert {n: e.as_json() for n, e in second.estimates.items()} == {
        n: e.as_json() for n, e in first.estimates.items()
    }
    assert first.notes == ["this judge sees nothing whose order could matter"]


def test_a_judge_that_contradicts_itself_is_found_out(tmp_path):
    path = labelled(tmp_path, [(f"q{i}", "a", 1) for i in range(10)])
    with serving(scoring(lambda _, number: 10 * (number % 2))) as server:
        config = config_of(tmp_path, server, judge_type="llm")
        found = report(config, path, repeats=4).estimates
    assert found["spread_over_repeats"].value is not None
    assert found["spread_over_repeats"].value > 0.5
    assert found["same_success_over_repeats"].value is not None
    assert found["same_success_over_repeats"].value < 0.5


def test_a_judge_that_prefers_the_first_place_is_found_out(tmp_path):
    def first_is_best(body: Body, number: int) -> Reply:
        inside, _ = material(body)
        names = [name for name in inside if name.startswith("answer_")]
        said = {name: {"reason": "", "score": float(name == names[0])} for name in names}
        return Reply(content=json.dumps(said))

    path = labelled(tmp_path, [("q", f"answer {i}", i) for i in range(5)])
    with serving(first_is_best) as server:
        config = config_of(tmp_path, server, judge_type="relative")
        found = report(config, path, repeats=4).estimates
    assert found["spread_over_repeats"].value == 0  # always the same order
    assert (found["spread_over_orders"].value or 0) > 0.3


def test_a_judge_that_prefers_long_answers_is_found_out(tmp_path):
    path = labelled(tmp_path, [(f"q{i}", "x" * (i + 1), 1) for i in range(12)])
    with serving(scoring(lambda text, _: min(10, len(text)))) as server:
        config = config_of(tmp_path, server, judge_type="llm")
        bias = report(config, path, repeats=1).estimates["length_bias"]
    assert bias.value is not None and bias.value > 0.5 and (bias.low or 0) > 0


def test_what_failed_is_named_and_counts_for_nothing(tmp_path):
    def script(body: Body, number: int) -> Reply:
        if material(body)[0]["answer"] == "bad":
            return Reply(status=400, content="no")
        return Reply(content='{"reason": "", "score": 10}')

    path = labelled(tmp_path, [("q1", "good", 1), ("q2", "bad", 1), ("q3", "fine", 1)])
    with serving(script) as server:
        found = report(config_of(tmp_path, server, judge_type="llm"), path, repeats=1)
    assert found.estimates["accuracy"].count == 2
    ((message, count),) = found.failures.items()
    assert "HTTP 400" in message and count == 1


def test_offline_without_kept_answers_makes_no_call(tmp_path):
    path = labelled(tmp_path, [("q1", "good", 1)])
    with serving("never asked") as server:
        found = report(config_of(tmp_path, server, judge_type="llm"), path, offline=True)
    assert server.requests == []
    assert any("--offline" in message for message in found.failures)


@pytest.mark.parametrize("line", ["{", "[]", '{"main_query": "q"}', '{"final_answer": 1}'])
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"main_query": "q", "final_answer": "a", "score": true}\n' + line)
    with pytest.raises(DataError, match=r"bad.jsonl:2: expected"):
        read_labelled(path)


def test_the_command(tmp_path):
    path = labelled(tmp_path, [(f"q{i}", str(i), i % 2) for i in range(6)])
    with serving(scoring(lambda text, _: 10 * (int(text) % 2))) as server:
        config_of(tmp_path, server, judge_type="llm")
        conf = next(tmp_path.glob("*.yaml"))
        arguments = ["judge", "--conf", str(conf), "--labelled", str(path)]
        more = [f"ajet.experiment_dir={tmp_path}"]
        shown = CliRunner().invoke(app, [*arguments, *more])
        assert shown.exit_code == 0, shown.output
        as_json = CliRunner().invoke(app, [*arguments, "--json", "--offline", *more])
    assert "accuracy" in shown.output and "1.000  [" in shown.output
    data = json.loads(as_json.output)
    assert data["accuracy"]["value"] == 1 and data["judge"] == "LlmJudge"


def test_options_that_do_not_fit_are_refused(tmp_path):
    path = labelled(tmp_path, [("q", "a", 1)])
    for options, words in [([], "needs --labelled"), (["--labelled", str(path)], "needs --conf")]:
        result = CliRunner().invoke(app, ["judge", *options])
        assert isinstance(result.exception, ConfigError) and words in str(result.exception)


def test_without_a_judge_there_is_nothing_to_measure(tmp_path):
    path = labelled(tmp_path, [("q", "a", 1)])
    with pytest.raises(ConfigError, match="no judge is configured"):
        report(config_of(tmp_path), path)
