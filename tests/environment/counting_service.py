"""A service for tests: count to the number of the task. What it does wrong stands in the task's id.

`3` needs three steps that say "next". `slow-3`, `held-3`, `error-3`, `nan-3`, `die-3`, `lose-3`,
`stuck-3` go wrong in the second step; `hang_release-3` and `bad_release-3` when they are released.
The step of `held-3` returns when the file is there that the environment variable `GATE` names.

    python tests/environment/counting_service.py --port 8000
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ajet.environment import EnvironmentService

LONG_S = 600


class Counter:
    def __init__(self, task_id: str) -> None:
        self.fault, _, goal = task_id.rpartition("-")
        self.goal = int(goal)
        self.count = 0


class CountingService(EnvironmentService):
    env_type = "counting"
    max_concurrent_calls = 128

    def task_ids(self, split: str) -> Sequence[int]:
        return range(1, 9) if split == "train" else range(1, 5)

    def create(self, task_id: str, params: dict[str, Any]) -> tuple[Counter, Any]:
        counter = Counter(task_id)
        system = {"role": "system", "content": "You count."}
        return counter, [system, {"role": "user", "content": f"Count to {counter.goal}."}]

    def step(self, instance: Counter, action: dict[str, Any]) -> Sequence[Any]:
        instance.count += 1
        if instance.count == 2:
            self.go_wrong(instance.fault)
        reward = float("nan") if instance.fault == "nan" else 0.5
        is_over = instance.count >= instance.goal
        return f"{action['content']}: {instance.count}", reward, is_over, {"count": instance.count}

    def go_wrong(self, fault: str) -> None:
        match fault:
            case "slow" | "stuck":
                time.sleep(3 if fault == "slow" else LONG_S)
            case "held":
                while not Path(os.environ["GATE"]).exists():
                    time.sleep(0.01)
            case "error":
                raise ZeroDivisionError("the world ended")
            case "die":
                os._exit(9)

    def evaluate(self, instance: Counter, params: dict[str, Any]) -> float:
        return min(1.0, instance.count / instance.goal)

    def release(self, instance: Counter) -> None:
        if log := os.environ.get("RELEASE_LOG"):
            with Path(log).open("a") as file:
                file.write("released\n")
        if instance.fault == "hang_release":
            time.sleep(LONG_S)
        if instance.fault == "bad_release":
            raise OSError("the disk is full")


if __name__ == "__main__":
    CountingService.main()
