"""Episodes in processes of their own (`task_runner.isolation: process`).

1. What an episode's code does ends this episode only: it holds the interpreter, takes memory,
   exits, crashes, raises what ends programs, or leaves threads and children behind.
2. What ends up in the record is the same as with threads: tokens, rewards, samples. A greedy
   evaluation samples greedily.
3. No process outlives the run, also after `kill -9`.
4. A deadline's record shows the line of the user's code that held the interpreter.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ajet.config.loading.load import load_config
from ajet.config.sections.root import RootConfig
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import ConfigError
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Episode
from ajet.schema.task import Task
from ajet.service.supervisor import descendants
from ajet.task_rollout import workers
from ajet.task_rollout.isolation.isolated_run import IsolatedRunner
from ajet.task_rollout.rollout import Rollout
from ajet.training.episode_process import isolated
from ajet.training.episodes import make_runner
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of, model_folder
from tests.processes.service_processes import eventually, is_gone

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

WORKFLOW = """
import ctypes, os, re, sys, threading, time
from pathlib import Path
from ajet import Workflow, WorkflowOutput

class Behaves(Workflow):
    async def execute(self, workflow_task, tuner):
        client = tuner.as_raw_openai_sdk_client()
        messages = [{"role": "user", "content": workflow_task.task.main_query}]
        answer = await client.chat.completions.create(messages=messages)
        asked = workflow_task.task.main_query
        if asked == "holds the interpreter":
            re.match(r"(a+)+$", "a" * 60 + "!")
        elif asked == "takes memory":
            [0] * (10**9)
        elif asked == "exits":
            os._exit(0)
        elif asked == "crashes":
            ctypes.string_at(0)
        elif asked == "leaves a child":
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        elif asked == "leaves a thread":
            threading.Thread(target=time.sleep, args=(60,)).start()
        elif asked == "exits the interpreter":
            sys.exit(3)
        elif asked == "interrupts":
            raise KeyboardInterrupt
        elif asked == "returns a function":
            return WorkflowOutput(reward=1.0, metadata={"function": lambda: 1})
        elif asked == "streams":
            parts = await client.chat.completions.create(messages=messages, stream=True)
            text = "".join([part.choices[0].delta.content or "" async for part in parts])
            return WorkflowOutput(reward=1.0, metadata={"text": text})
        elif asked.startswith("hints"):
            Path(__file__).with_name(f"hints of {os.getpid()}").touch()
            while len(list(Path(__file__).parent.glob("hints of *"))) < 2:
                time.sleep(0.01)  # two processes, although one could run all episodes in turn
            await client.chat.completions.create(messages=messages, user="me", verbosity="low")
        elif asked == "over http":
            import httpx2
            door = tuner.as_oai_baseurl_apikey()
            async with httpx2.AsyncClient() as http:
                reply = await http.post(
                    door.base_url + "/chat/completions",
                    headers={"authorization": "Bearer " + door.api_key},
                    json={"model": door.model, "messages": messages},
                )
            return WorkflowOutput(reward=1.0, metadata={"status": reply.status_code})
        print("printed by", asked)
        return WorkflowOutput(
            reward=1.0, metadata={"pid": os.getpid(), "text": answer.choices[0].message.content}
        )
"""
SETTINGS = """
ajet:
  model: {path: ajet:calculator, renderer: qwen3}
  rollout: {user_workflow: workflow.py->Behaves}
  task_runner: {isolation: process, process_memory_mb: 1000}
  task_reader:
    type: jsonl_dataset_file
    jsonl_dataset_file: {training: {file_path: tasks.jsonl}}
"""
NORMAL = ["one", "two", "three", "four"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


def fill(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    (tmp_path / "tasks.jsonl").write_text('{"main_query": "q", "task_id": "t"}\n')
    (tmp_path / "project.yaml").write_text(SETTINGS)
    return tmp_path


def make_isolated(folder: Path, *overrides: str) -> tuple[IsolatedRunner, RootConfig]:
    config = load_config(folder / "project.yaml", list(overrides))
    chat_format = chat_format_of(config.ajet.model, model_folder(config.ajet.model.path))
    tokenizer = chat_format.tokenizer
    answer = [*tokenizer.encode("fine"), chat_format.stop_token_ids[0]]
    engine = ScriptedEngine(lambda ids, params, session: answer, tokenizer=tokenizer)
    code = UserCode.load(config)
    runner = make_runner(config, chat_format, engine, HttpEndpoint(), code, folder)
    made = isolated(runner, config, folder)
    assert isinstance(made, IsolatedRunner)
    return made, config


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONUNBUFFERED", raising=False)  # what is printed arrives without it, too
        made, _ = make_isolated(fill(tmp_path_factory.mktemp("project")))
    yield made
    made.processes.close()
    assert eventually(lambda: not any(map(_is_python_of_ours, descendants(os.getpid())))), (
        "a process outlives its runner"
    )


def _is_python_of_ours(pid: int) -> bool:
    return b"multiprocessing" in _command(pid)


def _command(pid: int) -> bytes:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
    return b"" if b"resource_tracker" in command else command


def episodes_of(runner: IsolatedRunner, *queries: str, timeout_s: float = 300) -> list[Episode]:
    rollout = Rollout(
        runner=runner, seed=0, episode_timeout_s=timeout_s, max_retries=0, max_failure_share=1.0
    )
    tasks = [Task(main_query=query, task_id=query) for query in queries]
    return [group.episodes[0] for group in rollout.run(tasks, num_repeat=1, tag="train/1")]


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        ("takes memory", "workflow_error", "MemoryError"),
        ("exits", "workflow_error", "the episode's process exited with status 0"),
        ("crashes", "workflow_error", "the episode's process was ended by SIGSEGV"),
        ("exits the interpreter", "workflow_error", "SystemExit: 3"),
        ("interrupts", "workflow_error", "KeyboardInterrupt"),
        ("returns a function", "invalid_output", "cannot be sent to the run's process"),
    ],
)
def test_what_ends_a_program_ends_one_episode(
    runner: IsolatedRunner, query: str, kind: str, message: str
) -> None:
    bad, *others = episodes_of(runner, query, *NORMAL)
    assert bad.failure
    assert bad.failure.kind == kind
    assert message in bad.failure.message
    assert [episode.failure for episode in others] == [None] * 4
    assert [episode.reward for episode in others] == [1.0] * 4


def test_code_that_holds_the_interpreter_is_ended_and_its_line_is_shown(
    runner: IsolatedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GRACE_S", 60.0)  # the process is ended long before
    bad, *others = episodes_of(runner, "holds the interpreter", *NORMAL, timeout_s=8)
    assert bad.failure
    assert bad.failure.kind == "timeout"
    assert "workflow.py" in bad.failure.traceback
    assert "in execute" in bad.failure.traceback
    assert bad.dropped_tokens["failed_episode"] > 0
    assert [episode.failure for episode in others] == [None] * 4


@pytest.mark.parametrize("query", ["leaves a child", "leaves a thread"])
def test_a_process_with_leftovers_runs_no_other_episode(runner: IsolatedRunner, query: str) -> None:
    (first,) = episodes_of(runner, query)
    (second,) = episodes_of(runner, "one")
    assert first.failure is None
    assert first.metadata["pid"] != second.metadata["pid"]
    assert eventually(lambda: is_gone(first.metadata["pid"]))


def test_a_process_is_used_again(runner: IsolatedRunner) -> None:
    pids = {episodes_of(runner, "one")[0].metadata["pid"] for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    log = runner.config.ajet.rollout.user_workflow.partition("workflow.py")[0]
    assert "printed by one" in (Path(log) / "logs" / "episodes.log").read_text()


def test_what_requests_set_without_effect_is_said_once(
    runner: IsolatedRunner, caplog: pytest.LogCaptureFixture
) -> None:
    episodes = episodes_of(runner, *(f"hints {number}" for number in range(4)))
    assert [episode.failure for episode in episodes] == [None] * 4
    assert len({episode.metadata["pid"] for episode in episodes}) > 1
    told = sorted(text.partition(",")[0] for text in caplog.messages if "without effect" in text)
    assert told == ["requests set user", "requests set verbosity"]


def test_the_record_is_that_of_an_episode_in_a_thread(runner: IsolatedRunner, folder: Path) -> None:
    config = load_config(folder / "project.yaml", [])
    in_thread = make_runner(
        config,
        runner.gateway.chat_format,
        runner.gateway.engine,
        HttpEndpoint(),
        UserCode.load(config),
        folder,
    )
    isolated_episode = episodes_of(runner, "streams")[0]
    rollout = Rollout(runner=in_thread, seed=0)
    task = Task(main_query="streams", task_id="streams")
    (group,) = rollout.run([task], num_repeat=1, tag="train/1")
    other = group.episodes[0]
    assert isolated_episode.failure is None
    assert isolated_episode.metadata == other.metadata == {"text": "fine"}
    assert isolated_episode.episode_id == other.episode_id
    assert len(isolated_episode.calls) == len(other.calls) == 2
    for mine, theirs in zip(isolated_episode.samples, other.samples, strict=True):
        np.testing.assert_array_equal(mine.ids, theirs.ids)
        np.testing.assert_array_equal(mine.loss_mask, theirs.loss_mask)
        np.testing.assert_array_equal(mine.logprobs, theirs.logprobs)


def test_a_process_samples_as_its_phase_says(runner: IsolatedRunner) -> None:
    engine = runner.gateway.engine
    assert isinstance(engine, ScriptedEngine)
    episodes_of(runner, "one")
    assert engine.requests[-1].params.temperature == 1
    defaults = SamplingDefaults(max_tokens=7, temperature=0.0)
    greedy = replace(runner, gateway=replace(runner.gateway, defaults=defaults))
    episodes_of(greedy, "one")
    assert engine.requests[-1].params.temperature == 0
    assert engine.requests[-1].params.max_tokens == 7


def test_a_process_has_an_http_endpoint_of_its_own(runner: IsolatedRunner) -> None:
    (episode,) = episodes_of(runner, "over http")
    assert episode.failure is None
    assert episode.metadata == {"status": 200}
    assert len(episode.calls) == 2


def test_a_module_that_cannot_be_imported_is_told_at_the_start(
    folder: Path, runner: IsolatedRunner
) -> None:
    config = load_config(folder / "project.yaml", [])
    (folder / "workflow.py").write_text("import no_such_module")
    with pytest.raises(ConfigError, match="no_such_module"):
        isolated(runner, config, folder)


PROGRAM = """
import sys, threading
from pathlib import Path
from tests.processes.test_isolation import episodes_of, make_isolated
if __name__ == "__main__":
    runner, _ = make_isolated(Path(sys.argv[1]))
    print("ready", flush=True)
    episodes_of(runner, "holds the interpreter", timeout_s=300)
"""


def test_no_process_outlives_a_killed_run(folder: Path) -> None:
    (folder / "program.py").write_text(PROGRAM)
    run = subprocess.Popen(
        [sys.executable, str(folder / "program.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert run.stdout
    with run.stdout as output:
        assert output.readline() == b"ready\n"
    # Resource tracker, fork server, episode.
    assert eventually(lambda: len(descendants(run.pid)) >= 3)
    below = descendants(run.pid)
    time.sleep(1)  # the episode's code holds its interpreter by now
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert eventually(lambda: not [pid for pid in below if b"python" in _command(pid)])
