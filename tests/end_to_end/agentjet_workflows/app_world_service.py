"""The environment of `app_world.py`: it likes actions with many different characters.

python app_world_service.py --port 8080
"""

from collections.abc import Sequence
from typing import Any

from ajet.environment import EnvironmentService

ENOUGH = 60


class AppWorldService(EnvironmentService):
    env_type = "appworld"

    def task_ids(self, split: str) -> Sequence[str]:
        return [f"{split}_{number}" for number in range(4 if split == "train" else 2)]

    def create(self, task_id: str, params: dict[str, Any]) -> tuple[set[str], Any]:
        system = {"role": "system", "content": "You write code that calls apps."}
        return set(), [system, {"role": "user", "content": f"Do {task_id}."}]

    def step(self, instance: set[str], action: dict[str, Any]) -> Sequence[Any]:
        instance.update(action["content"])
        is_over = len(instance) >= ENOUGH
        return f"Output: {len(instance)}", 0.0, is_over, {}

    def evaluate(self, instance: set[str], params: dict[str, Any]) -> float:
        return min(1.0, len(instance) / ENOUGH)


if __name__ == "__main__":
    AppWorldService.main()
