"""Thousands of tiny steps: do memory, open files, threads or the disk grow with them?

    python benchmarks/soak.py --json [--kind http] [--steps 5000] [--minutes 10]

A run of the backbone `local` trains the model that ships with AgentJet. A step has one task, two
episodes of one call, and four tokens per call, so that the steps are as short as the framework
allows. The run is watched from outside: every few seconds, the sums over all its processes. The
slopes are least squares over the steps after the first fifth. Samples that follow each other are
alike, so there is one value for each of 20 blocks of samples: the average, and for the memory the
lowest, since a step that trains or writes holds more for a moment. The interval is 1.96 standard
errors of the slope of these values.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from ajet.environment import EnvironmentService
from ajet.service.probes import free_ports

ROOT = Path(__file__).resolve().parents[1]
EVERY_S = 2.0
WARM_UP = 0.2
"""The share of the steps that is left out."""
NUM_BLOCKS = 20
NAME = "soak"
INTERRUPTED = 130
"""The exit code after SIGTERM."""
Reduce = Callable[[np.ndarray], float]
"""Samples of a block -> the value of the block."""


class OneCall(Workflow):
    """Asks once, within the process."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """The reward is random: only the work counts."""
        client = tuner.as_raw_openai_sdk_client()
        messages: Any = [{"role": "user", "content": workflow_task.task.main_query}]
        await client.chat.completions.create(model="policy", messages=messages)
        return WorkflowOutput(reward=random.random())


class OneCallOverHttp(Workflow):
    """Asks once, over HTTP."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """As an agent without an SDK."""
        import aiohttp

        given = tuner.as_oai_baseurl_apikey()
        messages = [{"role": "user", "content": workflow_task.task.main_query}]
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {given.api_key}"}) as session,
            session.post(
                f"{given.base_url}/chat/completions",
                json={"model": given.model, "messages": messages},
            ) as response,
        ):
            response.raise_for_status()
            await response.read()
        return WorkflowOutput(reward=random.random())


class OneCallOfOpenAi(Workflow):
    """Asks once, over HTTP, by a client of its own, which holds megabytes until it is collected."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """As an agent that is a program of its own."""
        from openai import AsyncOpenAI

        given = tuner.as_oai_baseurl_apikey()
        messages: Any = [{"role": "user", "content": workflow_task.task.main_query}]
        async with AsyncOpenAI(base_url=given.base_url, api_key=given.api_key) as client:
            await client.chat.completions.create(model=given.model, messages=messages)
        return WorkflowOutput(reward=random.random())


class OneStep(Workflow):
    """Asks once, and gives the answer to an environment."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """The environment gives the reward."""
        client = tuner.as_raw_openai_sdk_client()
        messages: Any = list(workflow_task.task.init_messages)
        answer = await client.chat.completions.create(model="policy", messages=messages)
        content = answer.choices[0].message.content or ""
        _, reward, _, _ = workflow_task.gym_env.step({"role": "assistant", "content": content})
        return WorkflowOutput(reward=reward)


class SmallService(EnvironmentService):
    """Ends after one action."""

    def task_ids(self, split: str) -> range:
        """A few tasks."""
        return range(16)

    def create(self, task_id: str, params: dict[str, Any]) -> tuple[None, str]:
        """No state."""
        return None, "What is 1 + 2?"

    def step(self, instance: None, action: dict[str, Any]) -> tuple[str, float, bool]:
        """A random reward."""
        return "Thanks.", random.random(), True


KINDS = {
    "threads": OneCall,
    "http": OneCallOverHttp,
    "openai": OneCallOfOpenAi,
    "environment": OneStep,
    "vllm": OneCall,
}


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """Sums over the processes of the run at one moment."""

    step: int
    memory_mb: float
    """Anonymous memory, in RAM. Pages of files would come and go with other processes."""
    open_files: int
    threads: int
    disk_kb: float
    """Size of the run folder."""


def settings(kind: str, steps: int, folder: Path) -> dict[str, Any]:
    """The configuration of the run."""
    given: dict[str, Any] = {
        "backbone": "local",
        "experiment_name": NAME,
        "experiment_dir": str(folder),
        "model": {"path": "ajet:calculator", "renderer": "qwen3", "enable_thinking": False},
        "data": {"train_batch_size": 1},
        "rollout": {
            "user_workflow": f"{Path(__file__).resolve()}->{KINDS[kind].__name__}",
            "num_repeat": 2,
            "max_response_length_in_one_turn": 4,
            "max_model_len": 128,
        },
        "trainer_common": {"total_training_steps": steps, "test_freq": None, "save_freq": None},
    }
    if kind == "vllm":
        given["rollout"] |= {"name": "vllm", "vllm": {"kv_cache_gb": 0.25}}
    if kind == "environment":
        return given | _service()
    path = folder / "tasks.jsonl"
    lines = [
        {"task_id": f"t{number}", "main_query": f"What is {number} + 1?"} for number in range(16)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given["task_reader"] = {
        "type": "jsonl_dataset_file",
        "jsonl_dataset_file": {"training": {"file_path": str(path)}},
    }
    return given


def _service() -> dict[str, Any]:
    """An environment service, which is also the source of the tasks."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = f"{sys.executable} {Path(__file__).resolve()} --serve --port {port}"
    return {
        "task_reader": {
            "type": "env_service",
            "env_service": {"env_url": url, "training_split": "train"},
        },
        "task_runner": {
            "services": [{"name": "small", "command": command, "ready_url": f"{url}/health"}]
        },
    }


def last_step(folder: Path) -> int:
    """The newest step in the run's metrics."""
    with suppress(OSError, ValueError, IndexError), (folder / "metrics.jsonl").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
        return int(json.loads(file.read().splitlines()[-1])["step"])
    return 0


def snapshot(process: psutil.Process, folder: Path, disk_kb: float) -> Snapshot:
    """Look at the run; processes that end meanwhile count nothing."""
    step, memory, files, threads = last_step(folder), 0.0, 0, 0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            memory += anonymous_mb(each.pid)
            files += each.num_fds()
            threads += each.num_threads()
    return Snapshot(step=step, memory_mb=memory, open_files=files, threads=threads, disk_kb=disk_kb)


def anonymous_mb(pid: int) -> float:
    """MB that belong to no file."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text().split()
        return int(status[status.index("RssAnon:") + 1]) / 1024
    return 0.0


def size_kb(folder: Path) -> float:
    """Bytes of all files below."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total / 1024


def watch(
    kind: str, steps: int, python: str, minutes: float = float("inf")
) -> tuple[list[Snapshot], float]:
    """Run to the end, or interrupt after so many minutes; what was seen, and the seconds."""
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        folder = Path(name)
        conf = folder / "soak.yaml"
        conf.write_text(json.dumps({"ajet": settings(kind, steps, folder)}))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        begun, seen = time.monotonic(), []
        with (folder / "output").open("wb") as output:
            run = subprocess.Popen(
                [python, "-m", "ajet.cli", "--conf", str(conf)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            process, disk_kb, number = psutil.Process(run.pid), 0.0, 0
            while run.poll() is None:
                if number % 15 == 0:  # a walk over thousands of files
                    disk_kb = size_kb(folder / NAME)
                with suppress(psutil.NoSuchProcess):
                    seen.append(snapshot(process, folder / NAME, disk_kb))
                number += 1
                if time.monotonic() - begun > 60 * minutes:
                    break
                time.sleep(EVERY_S)
            run.terminate()  # nothing happens if it has ended
            run.wait(120)
        if run.returncode not in (0, INTERRUPTED):
            raise SystemExit((folder / "output").read_text()[-2000:])
    return seen, time.monotonic() - begun


def slope(steps: np.ndarray, values: np.ndarray, of_block: Reduce) -> dict[str, float]:
    """Growth per step of one value per block, and 1.96 standard errors of it."""
    blocks = min(NUM_BLOCKS, len(steps))
    x = np.array([part.mean() for part in np.array_split(steps, blocks)])
    y = np.array([of_block(part) for part in np.array_split(values, blocks)])
    centred = x - x.mean()
    growth = (centred @ y) / (centred @ centred)
    rest = y - y.mean() - growth * centred
    error = np.sqrt((rest @ rest) / (blocks - 2) / (centred @ centred))
    return {"slope": float(growth), "plus_minus": float(1.96 * error)}


def summary(kind: str, seen: list[Snapshot], seconds: float) -> dict[str, Any]:
    """The figures of the page."""
    last = max(each.step for each in seen)
    kept = [each for each in seen[:-1] if WARM_UP * last <= each.step < last]
    steps = np.array([each.step for each in kept], float)

    def per(number: int, name: str, of_block: Reduce = np.mean) -> dict[str, float]:
        values = np.array([getattr(each, name) for each in kept], float)
        found = slope(steps, values, of_block)
        return {key: round(number * value, 4) for key, value in found.items()}

    return {
        "kind": kind,
        "steps": last,
        "seconds": round(seconds, 1),
        "samples": len(kept),
        "memory_mb_per_1000_steps": per(1000, "memory_mb", np.min),
        "open_files_per_1000_steps": per(1000, "open_files"),
        "threads_per_1000_steps": per(1000, "threads"),
        "disk_kb_per_step": per(1, "disk_kb"),
        "first": [round(kept[0].memory_mb, 1), kept[0].open_files, kept[0].threads],
        "last": [round(kept[-1].memory_mb, 1), kept[-1].open_files, kept[-1].threads],
    }


def main() -> None:
    """Run one kind and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), default="threads")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--python", default=sys.executable, help="of an environment with vLLM")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="interrupt it then")
    parser.add_argument("--samples", type=Path, help="write what was seen into this file")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seen, seconds = watch(options.kind, options.steps, options.python, options.minutes)
    if options.samples:
        names = Snapshot.__slots__
        rows = [{name: getattr(each, name) for name in names} for each in seen]
        options.samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = summary(options.kind, seen, seconds)
    print(json.dumps(shown, indent=1) if options.json else shown)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        sys.argv.remove("--serve")
        SmallService.main()
    else:
        main()
