"""Environments of this process: a user's class, and Gymnasium's.

1. One object per episode, closed on every path, in the episode's own thread.
2. What it raises is an `environment_error`; a message without an action is an observation.
3. Blocking calls stall nobody, and are not interrupted by a close.
"""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from gymnasium import spaces

from ajet import AjetTuner, Task, WorkflowOutput, WorkflowTask
from ajet.environment import Environment, GymnasiumEnvironment, InvalidActionError
from ajet.environment.in_process import InProcessSource
from tests.environment.running_service import Counting, Workflow, episodes_on
from tests.processes.service_processes import eventually


class World(Environment):
    """Ends after as many steps as the task's id says."""

    made: ClassVar[list[World]] = []
    gate: ClassVar[threading.Event] = threading.Event()
    """Steps with the fault "hang" wait for it."""

    def __init__(self, task: Task, *, fault: str = "") -> None:
        super().__init__(task)
        self.fault = fault
        self.count = 0
        self.num_closed = 0
        self.threads = {threading.current_thread()}
        World.made.append(self)
        if fault == "make":
            raise OSError("no display")

    def reset(self) -> str:
        if self.fault == "reset":
            raise OSError("no map")
        return f"world {self.task.task_id}"

    def step(self, action: dict[str, Any]) -> tuple[str, float, bool, dict[str, Any]]:
        self.threads.add(threading.current_thread())
        self.count += 1
        match self.fault:
            case "step":
                raise OSError("no ground")
            case "nan":
                return "x", float("nan"), False, {}
            case "huge":
                return "x", 10**400, False, {}
            case "numpy":
                return "x", np.float32(0.5), np.bool_(self.count >= 3), {}
            case "block":
                time.sleep(0.5)
            case "hang":
                World.gate.wait(60)
            case "action" if self.count == 1:
                raise InvalidActionError("Say left or right.")
        return f"step {self.count}", 0.5, self.count >= int(self.task.task_id), {}

    def close(self) -> None:
        self.threads.add(threading.current_thread())
        self.num_closed += 1
        if self.fault == "close":
            raise OSError("no exit")


@pytest.fixture(autouse=True)
def forget() -> None:
    World.made.clear()
    World.gate.clear()


def episodes_in_world(fault: str = "", task_ids: list[str] | None = None, **options: Any) -> Any:
    source = InProcessSource(World, {"fault": fault})
    return episodes_on(source, task_ids or ["3"], **{"max_retries": 0, **options})


def test_each_episode_has_an_object_of_its_own_in_its_own_thread() -> None:
    episodes = episodes_in_world(task_ids=["1", "2", "3", "4"])
    assert [episode.reward for episode in episodes] == [0.5, 1.0, 1.5, 2.0]
    assert [episode.metadata["query"] for episode in episodes] == [
        f"world {number}" for number in range(1, 5)
    ]
    assert [world.num_closed for world in World.made] == [1] * 4
    assert all(len(world.threads) == 1 for world in World.made)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("make", "create: OSError: no display"),
        ("reset", "create: OSError: no map"),
        ("step", "step: OSError: no ground"),
        ("nan", "step: ValueError: reward: got nan, expected a finite number"),
        (
            "huge",
            f"step: ValueError: reward: got {'1'.ljust(200, '0')}..., expected a finite number",
        ),
    ],
)
def test_what_the_environment_raises_is_its_fault(fault: str, message: str) -> None:
    [episode] = episodes_in_world(fault)
    assert episode.failure.kind == "environment_error"
    assert episode.failure.message == f"EnvironmentFault: {message}"
    assert [world.num_closed for world in World.made] == [0 if fault == "make" else 1]


def test_rewards_of_numpy_are_numbers() -> None:
    [episode] = episodes_in_world("numpy")
    assert episode.reward == 1.5


def test_a_fault_while_closing_costs_no_episode(caplog: pytest.LogCaptureFixture) -> None:
    [episode] = episodes_in_world("close")
    assert episode.reward == 1.5
    assert "closing World failed" in caplog.text


def test_a_message_without_an_action_is_an_observation() -> None:
    class Confused(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            result = workflow_task.gym_env.step({"role": "assistant", "content": "hm"})
            assert result == ("Say left or right.", 0.0, False, {"invalid_action": True})
            return await Counting().execute(workflow_task, tuner)

    [episode] = episodes_in_world("action", workflow_class=Confused)
    assert episode.reward == 1.0


def test_blocking_environments_stall_nobody() -> None:
    started = time.monotonic()
    source = InProcessSource(World, {"fault": "block"})
    episodes = episodes_on(source, [f"0{'0' * number}2" for number in range(16)])
    assert [episode.reward for episode in episodes] == [1.0] * 16
    assert time.monotonic() - started < 13  # one after the other they take 16 s


def test_a_step_that_hangs_is_closed_when_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    from ajet.task_rollout import workers

    monkeypatch.setattr(workers, "GRACE_S", 0.2)
    [episode] = episodes_in_world("hang", episode_timeout_s=2)
    assert episode.failure.kind == "timeout"
    [world] = World.made
    assert (world.count, world.num_closed) == (1, 0)
    World.gate.set()
    assert eventually(lambda: world.num_closed == 1)


def test_a_call_after_the_end_is_refused() -> None:
    kept: list[Any] = []

    class Keeping(Counting):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            kept.append(workflow_task.gym_env)
            return await super().execute(workflow_task, tuner)

    episodes_in_world(workflow_class=Keeping)
    with pytest.raises(RuntimeError, match="the episode is over"):
        kept[0].step({"role": "assistant", "content": "more"})
    with pytest.raises(RuntimeError, match="every episode gets an instance"):
        kept[0].reset()


# Gymnasium.


class FrozenLake(GymnasiumEnvironment):
    id = "FrozenLake-v1"

    def observation_to_message(self, observation: Any, info: dict[str, Any]) -> str:
        return f"You stand on field {observation}."

    def message_to_action(self, message: dict[str, Any]) -> int:
        moves = ["left", "down", "right", "up"]
        for number, move in enumerate(moves):
            if move in message["content"]:
                return number
        raise InvalidActionError(f"Say one of {', '.join(moves)}.")


PATH = ["down", "down", "right", "right", "down", "right"]


def test_a_users_text_adapter_plays_frozen_lake() -> None:
    class Walking(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            assert workflow_task.task.main_query == "Reach the goal.\n\nYou stand on field 0."
            environment = workflow_task.gym_env
            assert environment.step("sideways")[0] == "Say one of left, down, right, up."
            for move in PATH:
                seen, reward, is_over, _ = environment.step({"role": "assistant", "content": move})
            assert (seen, reward, is_over) == ("You stand on field 15.", 1.0, True)
            return WorkflowOutput(reward=environment.evaluate(workflow_task.episode_uuid, {}))

    source = InProcessSource(FrozenLake, {"is_slippery": False, "map_name": "4x4"})
    from tests.environment.running_service import rollout_on

    task = Task(task_id="a", main_query="Reach the goal.")
    [group] = rollout_on(source, Walking).run([task], num_repeat=1, tag="x")
    assert group.episodes[0].reward == 1.0, group.episodes[0].failure


def test_episodes_of_a_task_start_in_the_same_state() -> None:
    def first(task: Task) -> str:
        environment = GymnasiumEnvironment(task, id="CartPole-v1")
        try:
            return str(environment.reset())
        finally:
            environment.close()

    assert first(Task(task_id="a")) == first(Task(task_id="a"))
    assert first(Task(task_id="a")) != first(Task(task_id="b"))
    seeded = Task(task_id="a", metadata={"seed": 3})
    assert first(seeded) == first(Task(task_id="b", metadata={"random_number": 3}))


@pytest.mark.parametrize(
    ("id", "text", "action"),
    [
        ("FrozenLake-v1", "I go 2", 2),
        ("FrozenLake-v1", "I go 7", "Answer with a number, 0 to 3."),
        ("FrozenLake-v1", "I wait", "Answer with a number, 0 to 3."),
        ("FrozenLake-v1", "1" * 5000, "Answer with a number, 0 to 3."),
        ("Pendulum-v1", "[0.5]", [0.5]),
        ("Pendulum-v1", "[9.5]", "The action is outside of"),
        ("Pendulum-v1", "push", "Answer with JSON"),
        ("Pendulum-v1", "[" * 5000, "Answer with JSON"),
        ("Pendulum-v1", f"[{'1' * 400}]", "Answer with JSON"),
    ],
)
def test_the_default_adapter_reads_actions(id: str, text: str, action: Any) -> None:
    environment = GymnasiumEnvironment(Task(task_id="a"), id=id)
    try:
        if isinstance(action, str):
            with pytest.raises(InvalidActionError, match=action):
                environment.message_to_action({"content": text})
        else:
            assert environment.message_to_action({"content": text}) == action
    finally:
        environment.close()


PAIR = spaces.Tuple((spaces.Discrete(2), spaces.Text(5)))
LIMB = spaces.Box(-1, 1, (2,))
SPACES: list[tuple[Any, str, Any]] = [
    (spaces.Dict(go=spaces.Discrete(3), arm=LIMB), '{"go": 2, "arm": [0.5, 0]}', "go"),
    (spaces.Dict(go=spaces.Discrete(3)), '{"go": 3}', None),
    (spaces.Dict(go=spaces.Discrete(3)), '{"stop": 1, "go": 1}', None),
    (spaces.Dict(go=spaces.Discrete(3)), "[1]", None),
    (PAIR, '[1, "ab"]', (1, "ab")),
    (PAIR, "[1]", None),
    (spaces.MultiDiscrete([2, 3]), "[1, 2]", [1, 2]),
    (spaces.MultiDiscrete([2, 3]), "[1, 1.5]", None),
    (spaces.MultiBinary(3), "[1, 0, 1]", [1, 0, 1]),
    (spaces.Sequence(spaces.Discrete(3)), "[0, 2]", (0, 2)),
    (spaces.Sequence(spaces.Discrete(3), stack=True), "[0, 2]", [0, 2]),
    (spaces.OneOf((spaces.Discrete(2), spaces.Discrete(9))), "[1, 5]", (1, 5)),
    (spaces.OneOf((spaces.Discrete(2), spaces.Discrete(9))), "[2, 5]", None),
]


@pytest.mark.parametrize(("space", "text", "expected"), SPACES)
def test_the_default_adapter_reads_actions_of_every_space(
    space: Any, text: str, expected: Any
) -> None:
    class InSpace(GymnasiumEnvironment):
        def make(self) -> Any:
            return SimpleNamespace(action_space=space)

    environment = InSpace(Task(task_id="a"))
    if expected is None:
        with pytest.raises(InvalidActionError):
            environment.message_to_action({"content": text})
        return
    action = environment.message_to_action({"content": text})
    assert space.contains(action)
    assert expected == "go" or list(action) == list(expected)


def test_an_observation_of_several_parts_is_text_without_types() -> None:
    class Nothing(GymnasiumEnvironment):
        def make(self) -> Any:
            return None

    seen = {"at": np.int64(3), "arm": np.array([0.5, 0], np.float32), "pair": (np.int8(1), "x")}
    text = Nothing(Task(task_id="a")).observation_to_message(seen, {})
    assert text == "{at: 3, arm: [0.5 0. ], pair: (1, x)}"


def test_a_step_after_the_last_one_gives_no_reward() -> None:
    class Short(Environment):
        def reset(self) -> str:
            return "go"

        def step(self, action: Any) -> Any:
            return "done", 1.0, True, {}

    class GoesOn(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            rewards = [workflow_task.gym_env.step("next")[1] for _ in range(3)]
            assert workflow_task.gym_env.step("next")[2] is True
            return WorkflowOutput(reward=sum(rewards))

    from tests.environment.running_service import rollout_on

    source = InProcessSource(Short, {})
    [group] = rollout_on(source, GoesOn).run([Task(task_id="a")], num_repeat=1, tag="x")
    assert group.episodes[0].reward == 1.0, group.episodes[0].failure


def test_a_release_at_the_very_end_of_a_call_closes_the_environment() -> None:
    environment = InProcessSource(World, {}).open(Task(task_id="3"), "e")

    class ReleasedAtTheEnd:
        """The environment's lock; another thread releases the environment before it is free."""

        lock = environment._lock
        acquire, release = lock.acquire, lock.release
        __enter__ = lock.__enter__

        def __exit__(self, *error: Any) -> None:
            environment.release()
            self.lock.release()

    asyncio.run(environment.create())
    environment._lock = ReleasedAtTheEnd()  # type: ignore[assignment]
    environment.step({"role": "assistant", "content": "go"})
    assert [world.num_closed for world in World.made] == [1]
