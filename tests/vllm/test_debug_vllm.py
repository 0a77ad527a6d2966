"""Debug runs on the real vLLM.

1. `ajet engine start` keeps a vLLM up that debug runs find; by its URL it is as exact.
2. When its process is killed, vLLM ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from ajet.backbone.debug.warm_engine.registry import warm_engines
from ajet.monitor.rollout_store import read_rollouts
from ajet.service.probes import start_ticks
from ajet.service.supervisor import descendants
from tests.processes.debug_runs import command, debug, environment, write_agent
from tests.processes.service_processes import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

SETTINGS = ("rollout.name=vllm", "rollout.max_model_len=256", "rollout.temperature=0")


def test_a_warm_vllm_is_found_and_ends_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    conf = write_agent(tmp_path)
    subprocess.run(
        command("engine", "start", "--conf", str(conf), *SETTINGS),
        cwd=tmp_path,
        env=environment(tmp_path, OMP_NUM_THREADS="1"),
        check=True,
        timeout=300,
    )
    [(_, warm)] = warm_engines()
    try:
        ended = debug(conf, *SETTINGS)
        assert ended.returncode == 0, ended.stderr
        assert f"engine: the warm one (vllm, process {warm.pid})" in ended.stderr
        monkeypatch.setenv("OPENAI_API_KEY", warm.api_key)
        by_url = debug(conf, f"debug.engine={warm.url}", *SETTINGS)
        assert by_url.returncode == 0, by_url.stderr
        assert "a vLLM with the vocabulary of" in by_url.stderr
        samples = [
            read_rollouts(tmp_path / "runs" / name / "rollouts" / "step_000001.parquet")[0]
            for name in ("agent-debug", "agent-debug-2")
        ]
        assert samples[0].ids.tolist() == samples[1].ids.tolist()
        assert samples[0].num_trained > 0
    finally:
        below = {pid: start_ticks(pid) for pid in descendants(warm.pid)}
        os.kill(warm.pid, signal.SIGKILL)
    assert below
    assert eventually(lambda: not any(start_ticks(pid) == t for pid, t in below.items() if t))
