"""Rules of the summary at the end: two episodes, metrics, files; the learning curve."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from ajet.errors import MissingExtraError
from ajet.monitor.metrics_log import MetricsLog
from ajet.monitor.reward_curve import draw_reward_curve
from ajet.monitor.summary import AFTER, BEFORE, print_summary
from ajet.monitor.transcript import Transcript, choose_example, load_transcript, save_transcript
from ajet.monitor.transcript_view import MAX_CHARACTERS, transcript_view
from ajet.schema.episode import Failure
from tests.unit.monitor_records import (
    QUERY,
    SYSTEM,
    eval_metrics,
    make_call,
    make_episode,
    train_metrics,
)


def shown(what: object, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(what)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def test_a_transcript_reads_as_a_conversation_with_tools_and_reward() -> None:
    assert shown(transcript_view(Transcript.of(make_episode()), "After")).splitlines() == [
        "After  task calculator-1",
        f"system     {SYSTEM}",
        f"user       {QUERY}",
        'assistant  → calculator(expression="73 - 7")',
        "tool       66",
        'assistant  → calculator(expression="66 - 17")',
        "tool       49",
        "assistant  Answer: 49",
        "= success, reward 1, 3 calls",
    ]


def test_messages_of_several_agents_are_labelled() -> None:
    episode = make_episode(solved=False)
    answer = {"role": "assistant", "content": "fine"}
    episode.calls.append(
        make_call(1, [{"role": "user", "content": "?"}], answer, agent_name="critic")
    )
    text = shown(transcript_view(Transcript.of(episode), ""))
    assert "assistant (solver)  Answer: 63" in text
    assert "assistant (critic)  fine" in text


def test_a_new_context_a_cut_answer_thinking_and_bad_arguments_are_shown() -> None:
    function = {"name": "calculator", "arguments": '{"expression": '}
    response = {"reasoning_content": "hm", "content": "", "tool_calls": [{"function": function}]}
    parts = [{"type": "text", "text": "look"}, {"type": "image_url"}]
    call = make_call(0, [{"role": "user", "content": parts}], response)
    call.new_timeline, call.finish_reason = "history_edited", "length"
    episode = make_episode()
    episode.calls = [call]
    assert [(turn.role, turn.text) for turn in Transcript.of(episode).turns] == [
        ("note", "a new context begins here: history edited"),
        ("user", "look\n[image_url]"),
        ("thinking", "hm"),
        ("assistant", '→ calculator({"expression": )'),
        ("note", "cut off: no tokens left for this answer"),
    ]


def test_a_failed_episode_shows_its_cause_instead_of_a_reward() -> None:
    episode = make_episode()
    episode.failure = Failure(kind="timeout", message="1800 s passed")
    episode.reward = None
    assert Transcript.of(episode).outcome == "failed: timeout: 1800 s passed"


def test_long_turns_are_cut_and_control_characters_never_reach_the_terminal() -> None:
    answer = {"role": "assistant", "content": "\x1b[2J\x9b" + "y" * 2000}
    episode = make_episode()
    episode.calls = [make_call(0, [], answer)]
    text = shown(transcript_view(Transcript.of(episode), ""), width=5000)
    assert "\\x1b[2J\\x9byyy" in text
    assert "\x1b" not in text
    assert f"{2011 - MAX_CHARACTERS:,} more characters" in text


def test_the_example_is_the_first_unsuccessful_episode_before_training() -> None:
    good, bad = make_episode(), make_episode(solved=False)
    assert choose_example([good, bad, good]) is bad
    assert choose_example([good]) is good


def test_a_resumed_run_loads_the_transcript_from_before_training(tmp_path: Path) -> None:
    transcript = Transcript.of(make_episode())
    assert load_transcript(tmp_path, BEFORE) is None
    save_transcript(transcript, tmp_path, BEFORE)
    assert load_transcript(tmp_path, BEFORE) == transcript


def finished_run(run_dir: Path) -> None:
    log = MetricsLog(run_dir)
    log.write(0, eval_metrics(0))
    for step in (1, 2):
        log.write(step, train_metrics(step) | (eval_metrics(20) if step == 2 else {}))
    save_transcript(Transcript.of(make_episode(solved=False)), run_dir, BEFORE)
    save_transcript(Transcript.of(make_episode()), run_dir, AFTER)


def summary_of(run_dir: Path, width: int = 80) -> list[str]:
    file = io.StringIO()
    print_summary(Console(file=file, width=width), run_dir)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_the_summary_shows_before_after_start_and_end_and_ends_with_the_path(
    tmp_path: Path,
) -> None:
    finished_run(tmp_path)
    lines = summary_of(tmp_path)
    assert lines.index("Before training  task calculator-1") < lines.index(
        "After training  task calculator-1"
    )
    assert " validation success, sampled   27.0%   90.8%   0 to 2" in lines
    assert "2 steps, 0:08 of training" in lines
    assert "  metrics.jsonl  every metric of every step" in lines
    assert not any("checkpoints" in line for line in lines)
    assert lines[-1] == str(tmp_path)


def test_a_wide_console_shows_the_two_episodes_side_by_side(tmp_path: Path) -> None:
    finished_run(tmp_path)
    assert any("Before training" in line and "After" in line for line in summary_of(tmp_path, 120))


def test_the_path_is_never_wrapped(tmp_path: Path) -> None:
    assert summary_of(tmp_path, width=10)[-1] == str(tmp_path)


def test_the_curve_is_drawn_as_svg_and_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    finished_run(tmp_path)
    svg, png = draw_reward_curve(tmp_path)
    assert (svg.name, png.name) == ("reward_curve.svg", "reward_curve.png")
    assert b"<svg" in svg.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")


def test_a_name_that_no_font_can_draw_warns_of_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "数学训练_한국어"
    folder.mkdir()
    finished_run(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(path.stat().st_size for path in draw_reward_curve(folder))


@pytest.mark.parametrize(
    "lines",
    [
        [{"reward/mean": 0.5}],
        [{"reward/mean": -3.0}, {"reward/mean": 12.0}],
        [{"eval/success_rate": 0.3}],
        [{"eval/greedy_success_rate": 0.0}, {"reward/mean": 1.0}, {"eval/success_rate": 1.0}],
    ],
)
def test_the_curve_is_drawn_from_the_available_points(
    tmp_path: Path, lines: list[dict[str, float]]
) -> None:
    pytest.importorskip("matplotlib")
    log = MetricsLog(tmp_path)
    for step, metrics in enumerate(lines):
        log.write(step, metrics)
    assert all(path.exists() for path in draw_reward_curve(tmp_path))


def texts_of(svg: Path) -> list[str]:
    """What is written in a curve; matplotlib draws letters, and keeps each text in a comment."""
    return re.findall("<!-- (.*?) -->", svg.read_text())


def curve_of(folder: Path, rewards: Sequence[float]) -> list[str]:
    pytest.importorskip("matplotlib")
    folder.mkdir()
    log = MetricsLog(folder)
    for step, reward in enumerate(rewards, start=1):
        log.write(step, {"reward/mean": reward})
    return texts_of(draw_reward_curve(folder)[0])


def test_a_long_run_is_shown_by_a_moving_mean(tmp_path: Path) -> None:
    noisy = [float(step % 2) for step in range(400)]
    assert "training" in curve_of(tmp_path / "short", noisy[:100])
    texts = curve_of(tmp_path / "long", noisy)
    assert "training, mean of the last 8" in texts
    assert "0.50" in texts  # of the last steps; the last one alone has 1


def test_a_label_tells_small_numbers_apart_and_large_ones_fit(tmp_path: Path) -> None:
    assert {"1.0e-03", "2.0e-03"} <= set(curve_of(tmp_path / "small", [0.001, 0.002]))
    assert {"-1,234", "-1,235"} <= set(curve_of(tmp_path / "large", [-1234.4, -1234.6]))


def test_a_name_that_is_wider_than_the_curve_loses_its_middle(tmp_path: Path) -> None:
    texts = curve_of(tmp_path / f"first{'x' * 200}last", [0.0, 1.0])
    (title,) = [text for text in texts if text.startswith("first")]
    assert " … " in title
    assert title.endswith("last")
    assert len(title) < 60


def test_without_points_there_is_no_curve(tmp_path: Path) -> None:
    MetricsLog(tmp_path).write(1, {"policy/loss": 0.1})
    assert draw_reward_curve(tmp_path) == []


def test_without_matplotlib_the_error_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MetricsLog(tmp_path).write(1, {"reward/mean": 0.1})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        draw_reward_curve(tmp_path)


def test_the_monitor_imports_neither_torch_nor_matplotlib_nor_tensorboard() -> None:
    code = (
        "import sys\n"
        "import ajet.monitor.summary, ajet.monitor.progress, ajet.monitor.sinks\n"
        "assert not {'torch', 'matplotlib', 'tensorboard'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
