"""`ajet judge`: what it measures, on labelled samples.

1. Accuracy, Spearman and kappa agree with values computed by hand; intervals contain them.
2. A judge that contradicts itself, prefers the first place, or prefers long answers is found out.
3. Costs are those of the calls; the second time everything comes from disk, also `--offline`.
4. What failed is named and counts for nothing. Wrong files and options are one sentence.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ajet.cli import app
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError, DataError
from ajet.monitor.call_store import CallStore
from ajet.replay.agreement import kappa, mean, share, spearman
from ajet.replay.judge_report import JudgeReport, judge_report, read_labelled, read_run
from ajet.schema.episode import Failure, Group
from ajet.schema.task import WorkflowOutput
from tests.judges.judged_rollouts import config_of, place  # noqa: F401
from tests.judges.knowing_model import material
from tests.judges.model_server import Body, Reply, Script, serving
from tests.unit.monitor_records import make_episode

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
    times_asked: dict[str, Iterator[int]] = defaultdict(itertools.count)

    def other_each_time(body: Body, number: int) -> Reply:
        inside, _ = material(body)
        score = 10 * (next(times_asked[inside["query"]]) % 2)
        return Reply(content=json.dumps({"reason": "so", "score": score}))

    with serving(other_each_time) as server:
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


def test_length_bias_does_not_depend_on_the_scale_of_the_labels(tmp_path):
    rows = [(f"q{i}", "x" * (i % 4 + 1), i % 4 + 1) for i in range(20)]
    with serving(scoring(lambda text, _: 2 * len(text))) as server:
        config = config_of(tmp_path, server, judge_type="llm")
        fair = report(config, labelled(tmp_path, rows), repeats=1).estimates
        rows = [(query, answer, 10 * (5 - score)) for query, answer, score in rows]
        biased = report(config, labelled(tmp_path, rows), repeats=1).estimates
    assert fair["spearman"].value == pytest.approx(1)
    assert fair["length_bias"].value is None  # it ranks all answers as the labels do
    assert biased["length_bias"].value == pytest.approx(1)


def test_a_text_may_contain_any_end_of_a_line(tmp_path):
    path = tmp_path / "labelled.jsonl"
    rows = [{"main_query": f"q{x}q", "final_answer": f"a{x}", "score": 1} for x in "\u2028\x85\x0c"]
    path.write_text("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    found = [(g.task.main_query, g.episodes[0].output.metadata) for g in read_labelled(path).groups]
    assert found == [(r["main_query"], {"final_answer": r["final_answer"]}) for r in rows]


def recorded_run(folder: Path) -> Path:
    """A step with two judged episodes, one that failed before, and one that failed a check."""
    right, wrong, failed, checked = (replace(make_episode(), episode_id=f"e{i}") for i in range(4))
    for number, episode in enumerate((right, wrong, failed, checked)):
        episode.output = WorkflowOutput(metadata={"final_answer": f"answer {number}"})
        episode.reward = float(number == 0)
    failed.reward, failed.failure = None, Failure(kind="episode_timeout", message="too slow")
    checked.calls[0].failed_checks = ["nonsense"]
    checked.reward = -1.0
    episodes = [right, wrong, failed, checked]
    folder.mkdir(exist_ok=True)
    CallStore(folder).write(1, [Group(task=right.task, episodes=episodes)], [])
    return folder


def test_of_a_run_only_episodes_that_a_judge_decided_on_are_measured(tmp_path):
    found = read_run(recorded_run(tmp_path), 1)
    assert found.labels == {"e0": 1.0, "e1": 0.0}
    assert found.num_left_out == 2
    with serving(scoring(lambda text, _: 10 * (text == "answer 0"))) as server:
        made = judge_report(config_of(tmp_path, server, judge_type="llm"), found, repeats=1)
        assert len(server.requests) == 2
    assert (made.num_episodes, made.failures) == (2, {})
    assert made.estimates["accuracy"].count == 2
    assert made.notes == ["left out: 2 episodes that failed before the judge, or failed a check"]
    with pytest.raises(DataError, match="no calls are recorded of step 0"):
        read_run(tmp_path, 0)


def test_the_code_of_a_run_folder_is_not_executed_unless_it_is_trusted(tmp_path):
    run = recorded_run(tmp_path / "run")
    (run / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'executed')!r})")
    config_of(run, judge_protocol="evil.py->Judge")
    next(run.glob("*.yaml")).rename(run / "config.yaml")
    result = CliRunner().invoke(app, ["judge", "--run", str(run)])
    assert isinstance(result.exception, ConfigError)
    assert "evil.py->Judge" in str(result.exception) and "--trust" in str(result.exception)
    assert not (tmp_path / "executed").exists()
    CliRunner().invoke(app, ["judge", "--run", str(run), "--trust"])
    assert (tmp_path / "executed").exists()


def test_a_server_of_a_run_folder_gets_nothing_unless_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    run = recorded_run(tmp_path / "run")
    with serving(scoring(lambda text, _: 10)) as server:
        model = {"api_key_env": "MY_KEY"}
        config_of(run, server, judge_type="llm", model=model)
        next(run.glob("*.yaml")).rename(run / "config.yaml")
        result = CliRunner().invoke(app, ["judge", "--run", str(run)])
        assert isinstance(result.exception, ConfigError) and not server.requests
        assert f"{server.url} gets the questions" in str(result.exception)
        assert "the key in MY_KEY" in str(result.exception)
        CliRunner().invoke(app, ["judge", "--run", str(run), "--offline"])
        assert not server.requests
        own = [f"ajet.task_judge.model.base_url={server.url}", "--repeats=1"]
        assert CliRunner().invoke(app, ["judge", "--run", str(run), *own]).exit_code == 0
        trusted = CliRunner().invoke(app, ["judge", "--run", str(run), "--trust", "--repeats=1"])
        assert trusted.exit_code == 0 and server.requests


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
