"""What a vLLM server is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ajet.engine.vllm.server import vllm_command


def command(device: str = "cpu", **options: Any) -> tuple[list[str], dict[str, str]]:
    return vllm_command(
        Path("/models/calculator"),
        python="/envs/vllm/bin/python",
        device=device,
        dtype="float32",
        max_model_len=2048,
        max_num_seqs=64,
        num_threads=1,
        kv_cache_gb=None,
        options=options,
    )


def value(line: list[str], option: str) -> str:
    return line[line.index(option) + 1]


def test_options_of_the_user_win_over_ours():
    line, _ = command(max_num_seqs=8, enforce_eager=False, seed=3)
    assert value(line, "--max-num-seqs") == "8"
    assert "--no-enforce-eager" in line and "--enforce-eager" not in line
    assert value(line, "--seed") == "3"


def test_no_key_is_in_the_command_line():
    line, env = command()
    assert not any("key" in word for word in line if not word.startswith("ajet."))
    assert "VLLM_API_KEY" not in env


def test_nothing_of_the_cpu_profile_reaches_a_gpu():
    line, env = command("cuda")
    assert not any("CPU" in name or name.startswith("OMP") for name in env)
    assert "--enforce-eager" not in line and "--kv-cache-memory-bytes" not in line


def test_no_statistics_are_sent():
    _, env = command("cuda")
    assert env["VLLM_NO_USAGE_STATS"] == env["DO_NOT_TRACK"] == "1"


def test_on_a_cpu_one_process_computes_and_schedules_unless_there_are_several_ranks():
    line, env = command()
    assert value(line, "--distributed-executor-backend") == "uni"
    assert env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"  # else vLLM does not take "uni"
    line, _ = command(tensor_parallel_size=2)
    assert "--distributed-executor-backend" not in line
    line, env = command("cuda")
    assert "--distributed-executor-backend" not in line
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in env
