"""A debug run, as its user sees it.

1. The workflow runs in the main thread; nothing heavy is loaded; the terminal is the debugger's.
2. `breakpoint()` and `bp(TAG)` stop in user code, and the run goes on from there.
3. Everything of an episode is printed and kept; the exit code says whether one failed.
4. Ctrl-C and the debugger's `q` end the run, and keep the episode as far as it came.
5. A server that says nothing of tokens gives conversations and rewards, and no samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ajet.monitor.rollout_store import read_rollouts
from tests.gateway.openai_server import KEY, serving
from tests.processes.debug_runs import (
    ANSWER,
    Terminal,
    debug,
    debug_command,
    scripted_warm_engine,
    write_agent,
)

WHERE = "open('seen', 'w').write(repr((threading.current_thread() is threading.main_thread(), "
WHERE += "sorted({'torch', 'ray', 'transformers', 'agentscope', 'fastapi'} & set(sys.modules)))))"

CAUGHT = """
        def tool():
            breakpoint()
            return 1
        try:
            tool()
        except Exception:
            print("went on")
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of an agent, with a warm engine up."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    conf = write_agent(tmp_path)
    with scripted_warm_engine(tmp_path, conf):
        yield conf


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def sit_down(terminals: list[Terminal], conf: Path, *args: str) -> Terminal:
    terminals.append(Terminal(debug_command(conf, *args), conf.parent))
    return terminals[-1]


def episodes_of(conf: Path) -> list[dict[str, object]]:
    lines = (conf.parent / "runs" / "agent-debug" / "episodes.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_shows_and_keeps_its_episode(conf: Path) -> None:
    write_agent(conf.parent, WHERE)
    ended = debug(conf)
    assert ended.returncode == 0, ended.stderr
    assert (conf.parent / "seen").read_text() == "(True, [])"
    assert f"▌ {ANSWER}<|im_end|>\n= success, reward 1, 1 call\n" in ended.stdout
    folder = conf.parent / "runs" / "agent-debug"
    last = ended.stdout.splitlines()[-1]
    assert last == f"1 task, 1 episode: none failed, no problems; all of it is in {folder}"
    assert "engine: the warm one (embedded, process" in ended.stderr
    [episode] = episodes_of(conf)
    assert (episode["outcome"], episode["reward"]) == ("ok", 1.0)
    [sample] = read_rollouts(folder / "rollouts" / "step_000001.parquet")
    assert sample.num_trained > 0


def test_a_failed_episode_is_shown_with_the_users_line_and_ends_the_run_with_1(conf: Path) -> None:
    write_agent(conf.parent, "[][3]")
    ended = debug(conf)
    assert ended.returncode == 1
    assert f'{conf.parent}/agent.py", line 10, in execute\n    [][3]\n' in ended.stdout
    assert "= failed: workflow_error: IndexError: list index out of range\n" in ended.stdout
    assert "error: 1 task, 1 episode: 1 failed, no problems; all of it is in" in ended.stderr
    assert episodes_of(conf)[0]["outcome"] == "workflow_error"


def test_a_problem_is_told_and_counted(conf: Path) -> None:
    ended = debug(conf, "rollout.max_response_length_in_one_turn=2", "debug.num_repeat=2")
    assert ended.returncode == 0
    assert ended.stdout.count("! call 0 cut off by length, after up to 2 tokens") == 2
    assert "2 repeats with the same reward, 0: no gradient" in ended.stdout
    assert "1 task, 2 episodes: none failed, 3 problems" in ended.stdout.splitlines()[-1]


def test_breakpoint_stops_in_the_workflow_and_the_run_goes_on(
    conf: Path, terminals: list[Terminal]
) -> None:
    write_agent(conf.parent, "breakpoint()")
    terminal = sit_down(terminals, conf)
    assert "agent.py(11)execute()" in terminal.read_until(r"\(Pdb\) ")
    terminal.type("p 'it is ' + answer")
    assert f"'it is {ANSWER}'" in terminal.read_until(r"\(Pdb\) ")
    terminal.type("answer = '50'")
    terminal.read_until(r"\(Pdb\) ")
    terminal.type("c")
    assert terminal.wait() == 0, terminal.text
    assert "= no success, reward 0, 1 call" in terminal.text


@pytest.mark.parametrize("tag", ["other,stop", None])
def test_bp_stops_only_where_its_tag_is_named(
    conf: Path, terminals: list[Terminal], tag: str | None
) -> None:
    write_agent(conf.parent, "bp('stop')")
    terminal = sit_down(terminals, conf, *([f"--debug={tag}"] if tag else []))
    if tag:
        assert "agent.py(11)execute()" in terminal.read_until(r"\(Pdb\) ")
        terminal.type("c")
    assert terminal.wait() == 0, terminal.text
    assert ("(Pdb)" in terminal.text) == (tag is not None)
    assert "= success, reward 1, 1 call" in terminal.text


@pytest.mark.parametrize(
    ("here", "awaited"),
    [
        ("breakpoint()", r"\(Pdb\) "),
        (CAUGHT, r"\(Pdb\) "),
        ("import time; print('asleep'); [time.sleep(0.1) for _ in range(600)]", "asleep"),
    ],
)
def test_quitting_ends_the_run_and_keeps_what_there_is(
    conf: Path, terminals: list[Terminal], here: str, awaited: str
) -> None:
    write_agent(conf.parent, here)
    terminal = sit_down(terminals, conf)
    terminal.read_until(awaited)
    if awaited == "asleep":
        terminal.press(b"\x03")
    else:
        terminal.type("q")
    assert terminal.wait() == 130, terminal.text
    assert f"assistant  {ANSWER}" in terminal.text
    assert "interrupted" in terminal.text
    assert "--resume" not in terminal.text
    assert "went on" not in terminal.text
    [episode] = episodes_of(conf)
    assert episode["num_calls"] == 1
    assert episode["reward"] is None


def test_the_users_own_choice_of_a_debugger_is_kept(conf: Path, monkeypatch: Any) -> None:
    write_agent(conf.parent, "breakpoint()")
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    assert debug(conf).returncode == 0


def test_a_server_of_text_gives_a_conversation_and_no_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serving() as server:
        ended = debug(
            write_agent(tmp_path), f"debug.engine={server.url}", "debug.api_key_env=MY_KEY"
        )
    assert ended.returncode == 0, ended.stderr
    assert f"engine: gpt-x at {server.url}, by text only: it gives no token ids" in ended.stderr
    assert "assistant  strange" in ended.stdout
    assert "= no success, reward 0, 1 call" in ended.stdout
    assert "none failed, no problems" in ended.stdout
    assert [path for path, _, _ in server.requests] == [
        "/v1/models",
        "/v1/chat/completions",
    ]
    assert {key for _, key, _ in server.requests} == {f"Bearer {KEY}"}
    assert KEY not in ended.stdout + ended.stderr


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    ended = debug(write_agent(tmp_path), "debug.engine=http://127.0.0.1:9")
    assert ended.returncode == 1
    assert "error: ajet.debug.engine: GET http://127.0.0.1:9/v1/models: " in ended.stderr


def test_without_a_warm_engine_none_is_pretended(tmp_path: Path) -> None:
    ended = debug(write_agent(tmp_path), "debug.engine=warm")
    assert ended.returncode == 1
    assert "no warm engine serves this model; `ajet engine start --conf FILE`" in ended.stderr


def test_a_debug_run_is_not_resumed(tmp_path: Path) -> None:
    ended = debug(write_agent(tmp_path), "--resume")
    assert ended.returncode == 2
    assert "error: --backbone=debug saves no checkpoint, so it cannot resume" in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (
            'trainable_targets = ["solver"]',
            'has target_tag "default", which Workflow.trainable_targets does not name',
        ),
        ("execute = own_client", "the workflow made no call through the tuner"),
    ],
)
def test_a_run_that_would_train_no_call_says_why(conf: Path, client: str, reason: str) -> None:
    agent = (conf.parent / "agent.py").read_text()
    own = "async def own_client(self, task, tuner):\n    return WorkflowOutput(reward=0.5)\n"
    field = client.replace("targets =", "targets: list =")
    (conf.parent / "agent.py").write_text(
        agent.replace("class Agent", f"{own}\nclass Agent") + f"    {field}\n"
    )
    ended = debug(conf)
    assert ended.returncode == 1
    assert "error: nothing can be trained: " in ended.stderr
    assert reason in ended.stderr
