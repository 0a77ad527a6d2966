"""The viewer on a large run: how long its pages take, and how much memory its server has.

    python benchmarks/viewer.py --json [--steps 100] [--episodes 1000]

Makes a run's folder of steps x episodes, each episode with one sample of about 200 tokens and three
calls, by the run's own writers; starts `ajet view` on it; and asks for what the pages ask for, as
the browser does. `first_page_s` begins with a server that has read nothing yet.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ajet.monitor.call_table import table_of_groups
from ajet.monitor.rollout_table import table_of
from ajet.schema.episode import Call, Episode, Group, Sample
from ajet.schema.task import Task, WorkflowOutput

GROUP = 8
CALL_TOKENS = (40, 25)
"""Given and sampled, of each of three calls."""


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=1000, help="of a step")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "large"
        began = time.perf_counter()
        make_run(folder, args.steps, args.episodes)
        made_s = time.perf_counter() - began
        result = measure(folder, args.steps)
    result |= {"samples": args.steps * args.episodes, "making_the_folder_s": round(made_s, 1)}
    print(json.dumps(result))


def make_run(folder: Path, steps: int, episodes: int) -> None:
    """A step is made once; the others differ in ids, rewards and logprobs."""
    for name in ("rollouts", "calls"):
        (folder / name).mkdir(parents=True)
    groups = [a_group(number) for number in range(episodes // GROUP)]
    every = [episode for group in groups for episode in group.episodes]
    rollouts, calls = table_of(every), table_of_groups(groups, [])
    rng = np.random.default_rng(0)
    with (folder / "episodes.jsonl").open("w") as log:
        for step in range(1, steps + 1):
            rewards = rng.integers(0, 2, len(every)).astype(float)
            ids = [f"{step:06d}-{episode.episode_id}" for episode in every]
            write_step(folder, step, rollouts, calls, ids, rewards, rng)
            log.writelines(
                json.dumps(log_line(step, episode, identity, reward)) + "\n"
                for episode, identity, reward in zip(every, ids, rewards.tolist(), strict=True)
            )
    metrics = (
        {"step": step, "time": 1e9 + step, **{f"metric/{n}": step / (n + 1) for n in range(40)}}
        for step in range(1, steps + 1)
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (folder / "config.yaml").write_text("ajet: {backbone: local}\n")
    (folder / "run.json").write_text('{"processes": []}')


def write_step(
    folder: Path,
    step: int,
    rollouts: pa.Table,
    calls: pa.Table,
    ids: Sequence[str],
    rewards: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """The two Parquet files of a step."""
    name = f"step_{step:06d}.parquet"
    lists = rollouts.column("logprobs").combine_chunks()
    values = pa.array(-rng.exponential(1.0, len(lists.values)).astype(np.float32))
    changed = {
        "logprobs": pa.ListArray.from_arrays(lists.offsets, values),
        "reward": pa.array(rewards),
        "episode_id": pa.array(ids),
    }
    for column, array in changed.items():
        rollouts = rollouts.set_column(rollouts.column_names.index(column), column, array)
    pq.write_table(rollouts, folder / "rollouts" / name, compression="zstd")
    calls = calls.set_column(calls.column_names.index("episode_id"), "episode_id", pa.array(ids))
    calls = calls.replace_schema_metadata({b"ajet.calls": b"1"})
    pq.write_table(calls, folder / "calls" / name, compression="zstd")


def a_group(number: int) -> Group:
    """The episodes of one task."""
    task = Task(task_id=f"task-{number:04d}", main_query=f"What is {number} plus {number}?")
    return Group(task=task, episodes=[an_episode(task, each, number) for each in range(GROUP)])


def an_episode(task: Task, number: int, seed: int) -> Episode:
    """Three calls that continue each other, merged into one sample."""
    rng = np.random.default_rng(seed * GROUP + number)
    calls: list[Call] = []
    for index in range(3):
        before = calls[-1].prompt_length + CALL_TOKENS[1] if calls else 0
        answer = f"I add {rng.integers(1000)} and {rng.integers(1000)}. " * 4
        calls.append(
            Call(
                call_id=f"c{index}",
                index=index,
                agent_name="agent",
                target_tag="agent",
                trained=True,
                parent_id=calls[-1].call_id if calls else None,
                new_timeline=None if calls else "first_call",
                prompt_length=before + CALL_TOKENS[0],
                delta_ids=rng.integers(0, 30_000, CALL_TOKENS[0]).astype(np.int32),
                completion_ids=rng.integers(0, 30_000, CALL_TOKENS[1]).astype(np.int32),
                logprobs=-rng.exponential(1.0, CALL_TOKENS[1]).astype(np.float32),
                policy_versions=np.zeros(CALL_TOKENS[1], np.int32),
                temperature=1.0,
                finish_reason="stop",
                messages=[{"role": "user", "content": task.main_query * 5}],
                response={"role": "assistant", "content": answer},
            )
        )
    identity = f"{task.task_id}-{number}"
    return Episode(
        episode_id=identity,
        task=task,
        repeat_index=number,
        calls=calls,
        samples=[a_sample(identity, task.task_id, calls)],
        reward=0.0,
        call_rewards=np.zeros(3),
        is_success=False,
        output=WorkflowOutput(),
    )


def a_sample(identity: str, task_id: str, calls: Sequence[Call]) -> Sample:
    """The tokens of all calls."""
    ids = np.concatenate([piece for c in calls for piece in (c.delta_ids, c.completion_ids)])
    mask, index = np.zeros(len(ids), bool), np.full(len(ids), -1, np.int32)
    for call in calls:
        here = slice(call.prompt_length, call.prompt_length + len(call.completion_ids))
        mask[here], index[here] = True, call.index
    return Sample(
        episode_id=identity,
        task_id=task_id,
        agent_names=("agent",),
        ids=ids,
        loss_mask=mask,
        logprobs=np.zeros(len(ids), np.float32),
        call_index=index,
        policy_versions=np.where(mask, 0, -1).astype(np.int32),
        temperature=np.ones(len(ids), np.float32),
        advantages=np.where(mask, 0.5, 0).astype(np.float32),
    )


def log_line(step: int, episode: Episode, identity: str, reward: float) -> dict[str, Any]:
    """As `episodes.jsonl` has it."""
    return {
        "step": step,
        "phase": "train",
        "episode_id": identity,
        "task_id": episode.task.task_id,
        "repeat_index": episode.repeat_index,
        "outcome": "ok",
        "reward": reward,
        "is_success": reward > 0.5,
        "cause": None,
        "traceback": None,
        "retries": 0,
        "num_calls": 3,
        "agents": {"agent": {"trained": 3}},
        "tokens": {"calls": 400, "sampled": 75, "trained_sequence": 195, "trained": 75},
        "dropped_tokens": {},
        "started_s": 1795885907.9365094,
        "duration_s": 3.161825180053711,
        "calls_s": 2.9506819248199463,
    }


class Browser:
    """Asks as a browser does, over one connection, with the cookie of the link."""

    def __init__(self, link: str) -> None:
        address = urlsplit(link)
        self._connection = http.client.HTTPConnection(str(address.netloc))
        self._connection.request("GET", f"/?{address.query}")
        reply = self._connection.getresponse()
        reply.read()
        self._headers = {"cookie": str(reply.getheader("set-cookie")).partition(";")[0]}

    def get(self, path: str, **parameters: object) -> Any:
        """The answer's data."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        self._connection.request("GET", path + query, headers=self._headers)
        reply = self._connection.getresponse()
        body = reply.read()
        assert reply.status == 200, (path, reply.status, body[:200])
        return json.loads(body) if path.startswith("/api/") else body

    def seconds(self, path: str, rounds: int = 5, **parameters: object) -> float:
        """Median over rounds."""
        taken = []
        for _ in range(rounds):
            began = time.perf_counter()
            self.get(path, run="large", **parameters)
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)


def measure(folder: Path, steps: int) -> dict[str, Any]:
    """Seconds and bytes."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "ajet.cli", "view", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        link = process.stdout.readline().strip()
        started_s = time.perf_counter() - began
        browser = Browser(link)
        began = time.perf_counter()
        browser.get("/")
        browser.get("/api/run", run="large")
        browser.get("/api/metrics", run="large")
        first_page_s = time.perf_counter() - began
        while (progress := browser.get("/api/run", run="large")["index"])["done"] < progress[
            "total"
        ]:
            pass
        all_indexed_s = time.perf_counter() - began
        result = timings(browser, steps)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    finally:
        process.terminate()
        process.wait(10)
    rounded = {name: round(value, 3) for name, value in result.items()}
    return {
        "start_s": round(started_s, 3),
        "first_page_s": round(first_page_s, 3),
        "all_indexed_s": round(all_indexed_s, 3),
        **rounded,
        "filter_s": max(value for name, value in rounded.items() if name.startswith("filter_")),
        "peak_memory_mb": round(int(peak) / 1024),
    }


def timings(browser: Browser, steps: int) -> dict[str, float]:
    """Of each kind of question, once everything is indexed."""
    ask = browser.seconds
    row = browser.get("/api/episodes", run="large", step=steps // 2)["rows"][0]
    one = {"step": row["step"], "episode": row["episode_id"]}
    return {
        "run_page_s": ask("/api/run"),
        "step_page_s": ask("/api/episodes", step=steps // 2),
        "filter_step_success_s": ask("/api/episodes", step=steps // 2, success="yes"),
        "filter_all_success_s": ask("/api/episodes", success="no"),
        "filter_all_agent_s": ask("/api/episodes", agent="agent"),
        "filter_all_task_s": ask("/api/episodes", task_id="task-0007"),
        "filter_all_sorted_by_reward_s": ask("/api/episodes", sort="reward", order="asc"),
        "filter_last_page_s": ask("/api/episodes", sort="duration_s", offset=90_000),
        "search_one_step_s": ask("/api/episodes", rounds=1, step=steps // 2, text="add 77"),
        "search_all_steps_s": ask("/api/episodes", rounds=1, text="add 78"),
        "episode_s": ask("/api/episode", **one),
        "tokens_s": ask("/api/tokens", **one, sample=0, start=0),
    }


if __name__ == "__main__":
    main()
