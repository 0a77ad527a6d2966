"""Whole runs on the real vLLM, through the real command, while something is killed.

1. vLLM killed in the middle of a step: it is restarted, the run ends well, nothing is lost.
2. vLLM killed again and again: the run ends with what vLLM wrote, and `--resume` continues.
3. The command killed: nothing of it is left, and `--resume` continues.
4. A port that is taken ends the run before it begins, in one line.
5. With LoRA, vLLM gets the merged weights, after a resumption too.
6. All of these runs listen on loopback only, and refuse requests without a key.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ajet.service.probes import start_ticks
from tests.end_to_end.command import OPENAI_AGENT, SMALL, Ended, start, wait
from tests.end_to_end.listening import assert_private, listening
from tests.end_to_end.run_folders import NAME, checkpoints_of, lines_of, metrics_of
from tests.end_to_end.temporary import assert_only_named_left, temporary_folder

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

MARK = "AJET_VLLM_TEST"
"""Environment variable that finds the processes of a run."""
VLLM = (
    f"rollout.user_workflow={OPENAI_AGENT}",
    "rollout.name=vllm",
    "rollout.max_model_len=512",
    "rollout.vllm.kv_cache_gb=0.25",
    "trainer_common.save_freq=1",
)


def run(exp_dir: Path, *args: str, act: Callable[[Path], None] | None = None) -> Ended:
    """A small run; `act` is called with its folder once it has begun to train."""
    with temporary_folder() as temporary:
        ended = _run(exp_dir, [*args], act, {"TMPDIR": str(temporary)})
        assert_only_named_left(temporary, ended.code)
    return ended


def _run(
    exp_dir: Path, args: list[str], act: Callable[[Path], None] | None, variables: dict[str, str]
) -> Ended:
    mark = uuid4().hex
    with listening(MARK, mark) as found:
        process = start(
            "--exp-dir", str(exp_dir), *SMALL, *VLLM, *args, variables={MARK: mark, **variables}
        )
        try:
            if act is not None:
                wait_for(lambda: (exp_dir / NAME / "checkpoints").exists(), process)
                act(exp_dir / NAME)
        except BaseException:
            process.kill()
            raise
        ended = wait(process)
    assert_private(found)
    if ended.code == 0:
        assert any(401 in each.statuses for each in found.values()), "vLLM was seen"
    return ended


def wait_for(is_there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not is_there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def entry_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())["processes"][-1]


def kill_vllm(folder: Path) -> None:
    os.kill(entry_of(folder)["services"][-1]["pid"], signal.SIGKILL)


def is_alive(pid: int, ticks: int) -> bool:
    return start_ticks(pid) == ticks


def test_vllm_killed_in_a_step_is_started_again_and_nothing_is_lost(tmp_path):
    ended = run(tmp_path, act=kill_vllm)
    folder = tmp_path / NAME
    assert ended.code == 0, ended.stderr
    assert "a vLLM server is lost; restarting it once: vllm-0 ended with" in ended.stderr
    assert [line["step"] for line in metrics_of(folder)] == [0, 1, 2, 3, 4]
    trained = [line for line in lines_of(folder / "episodes.jsonl") if line["phase"] == "train"]
    assert len(trained) == 4 * 16
    for line in metrics_of(folder)[1:]:
        assert line.get("policy/logprob_diff_max", 0.0) < 1e-3
        assert line.get("sync/probe_diff_max", 0.0) < 1e-3
    assert_nothing_is_left(folder, services=2)


def test_vllm_killed_for_good_ends_the_run_which_can_be_resumed(tmp_path):
    def kill_twice(folder: Path) -> None:
        kill_vllm(folder)
        deadline = time.monotonic() + 240
        while len(entry_of(folder)["services"]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kill_vllm(folder)

    ended = run(tmp_path, act=kill_twice)
    folder = tmp_path / NAME
    assert ended.code == 1
    assert "is lost for good" in ended.stderr and "vllm-0 ended with signal Killed" in ended.stderr
    assert entry_of(folder)["outcome"].startswith("failed")
    done = metrics_of(folder)[-1]["step"]
    assert checkpoints_of(folder)[-1].name == f"step_{done:06d}"
    assert_nothing_is_left(folder, services=2)


def test_the_command_killed_leaves_no_process_and_can_be_resumed(tmp_path):
    def kill_all(folder: Path) -> None:
        os.kill(entry_of(folder)["pid"], signal.SIGKILL)

    ended = run(tmp_path, act=kill_all)
    folder = tmp_path / NAME
    assert ended.code == -signal.SIGKILL
    assert_nothing_is_left(folder, services=1)

    resumed = run(tmp_path, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert [line["step"] for line in metrics_of(folder)][-1] == 4
    assert_nothing_is_left(folder, services=1)


def assert_nothing_is_left(folder: Path, services: int) -> None:
    """Nor a descendant: each names the run folder in its command line or environment."""
    started = entry_of(folder)["services"]
    assert len(started) == services
    deadline = time.monotonic() + 60
    while any(is_alive(s["pid"], s["start_ticks"]) for s in started) or processes_of(folder):
        assert time.monotonic() < deadline, processes_of(folder)
        time.sleep(0.1)


def processes_of(folder: Path) -> list[str]:
    """Processes that hold a log of the run open: all that vLLM starts write there."""
    log, found = str(folder / "logs"), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(file.startswith(log) for file in files):
            found.append(process.name)
    return found


def test_a_port_that_is_taken_ends_the_run_before_it_begins(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = run(tmp_path, f"rollout.vllm.options.port={port}")
    assert ended.code == 1
    assert ended.errors[0].startswith(f"vllm-0: port {port} cannot be used")
    assert "Traceback" not in ended.stderr


def test_with_lora_vllm_gets_the_merged_weights(tmp_path):
    lora = ("lora.lora_rank=8", "trainer_common.optim.lr=3e-3", "trainer_common.test_freq=-1")
    for steps, more in ((2, ()), (3, ("--resume",))):
        total = f"trainer_common.total_training_steps={steps}"
        ended = run(tmp_path, *lora, total, *more)
        assert ended.code == 0, ended.stderr
    lines = {line["step"]: line for line in metrics_of(tmp_path / NAME)}
    for step in (1, 2, 3):
        assert lines[step]["policy/logprob_diff_max"] < 1e-3
        assert lines[step]["sync/probe_diff_max"] < 1e-3
    saved = checkpoints_of(tmp_path / NAME)[1]
    assert (saved / "adapter_model.safetensors").is_file()
    assert not list(saved.glob("model*.safetensors"))
