"""The real AppWorld behind an environment service. It needs `pip install appworld` and its data.

    python -m tutorial.example_appworld.appworld_service --port 8080

AppWorld stops the clock of the process that it runs in, so every instance has a process of its own.
"""

import re
import sys
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from ajet.environment import EnvironmentService

SYSTEM_PROMPT = """
You act for {name} ({email}, phone {phone}) through the apps of their phone. Write one block of
Python code per message; you get back what it prints. Everything is called as apis.APP.API(...).
Find out what there is before you use it: print(apis.api_docs.show_app_descriptions())
print(apis.api_docs.show_api_descriptions(app_name="spotify"))
print(apis.api_docs.show_api_doc(app_name="spotify", api_name="login")) Passwords:
apis.supervisor.show_account_passwords(). Variables keep their values between blocks. When
everything is done, call apis.supervisor.complete_task(), with answer=... if a question was asked.
""".strip()
_FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)


def code_of(text: str) -> str:
    """The code in an answer: its fenced blocks, or all of it."""
    blocks = _FENCE.findall(text)
    return "\n".join(blocks) if blocks else text


def run_world(task_id: str, instance_id: str, pipe: Connection) -> None:
    """The process of one world: answers `(method, argument)` until `close`."""
    from appworld import AppWorld

    with AppWorld(task_id=task_id, experiment_name=f"ajet_{instance_id}") as world:
        person = world.task.supervisor
        pipe.send(
            [
                {
                    "role": "system",
                    "content": SYSTEM_PROMPT.format(
                        name=f"{person.first_name} {person.last_name}",
                        email=person.email,
                        phone=person.phone_number,
                    ),
                },
                {"role": "user", "content": world.task.instruction},
            ]
        )
        while True:
            method, argument = pipe.recv()
            if method == "close":
                return
            if method == "execute":
                pipe.send((world.execute(argument), world.task_completed()))
            else:
                tests = world.evaluate()
                pipe.send(1.0 if tests.success else min(0.99, tests.pass_percentage / 100))


class WorldProcess:
    """A world in a process of its own."""

    def __init__(self, task_id: str) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=run_world, args=(task_id, f"{id(self):x}", theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self.first = self._pipe.recv()
        """The first messages: whom the agent acts for, and the task."""

    def ask(self, method: str, argument: str = "") -> Any:
        """Call a method of the world; EOFError if its process has died."""
        self._pipe.send((method, argument))
        return self._pipe.recv()

    def close(self) -> None:
        """End the world and its process."""
        if self._process.is_alive():
            self._pipe.send(("close", ""))
            self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


class AppWorldService(EnvironmentService):
    """Instances of AppWorld. An agent's message is Python code."""

    env_type = "appworld"
    max_instances = 64

    def task_ids(self, split: str) -> list[str]:
        """The tasks of AppWorld's own split: train, dev, test_normal, test_challenge."""
        from appworld import load_task_ids

        return list(load_task_ids(split))

    def create(self, task_id: str, params: dict[str, Any]) -> tuple[WorldProcess, Any]:
        """Start a world."""
        world = WorldProcess(task_id)
        return world, world.first

    def step(self, instance: WorldProcess, action: dict[str, Any]) -> tuple[Any, ...]:
        """Run the code of a message; the episode is over when the task is completed."""
        output, is_completed = instance.ask("execute", code_of(str(action["content"])))
        return output, 0.0, bool(is_completed), {"is_refused": "Execution failed" in output}

    def evaluate(self, instance: WorldProcess, params: dict[str, Any]) -> float:
        """The share of AppWorld's tests that pass; 1 only if all of them do."""
        return float(instance.ask("evaluate"))

    def release(self, instance: WorldProcess) -> None:
        """End the world."""
        instance.close()


if __name__ == "__main__":
    if find_spec("appworld") is None:
        commands = "pip install appworld && appworld install && appworld download data"
        sys.exit(f"AppWorld is not installed: run  {commands}")
    AppWorldService.main()
