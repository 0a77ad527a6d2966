"""An engine that answers at once, a chat format of plain bytes, and workflows that use them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from openai import AsyncOpenAI

from ajet import Workflow, WorkflowOutput
from ajet.context_tracker.chat_format import ParsedMessage
from ajet.errors import EngineError
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Episode, Generation, SamplingParams
from ajet.schema.task import Task
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import Attempt, EpisodeRunner

ANSWER = b"ok"


class ByteFormat:
    """Every message is the bytes of its content; no history is ever continued."""

    stop_token_ids = ()
    parses_tool_calls = True
    enable_thinking = None

    def render(self, messages: list[dict[str, Any]], tools: object) -> list[int]:
        return [byte for message in messages for byte in message["content"].encode()]

    def extend(self, *_: object) -> None:
        return None

    def parse(self, completion_ids: Sequence[int], *_: object) -> ParsedMessage:
        return ParsedMessage(content=bytes(completion_ids).decode())


class FakeEngine:
    """Answers `ANSWER`. Notes sessions in `events`, as `+id` and `-id`."""

    policy_version = 0

    def __init__(self, *, num_faults: int = 0, max_model_len: int = 100) -> None:
        self.max_model_len = max_model_len
        self.num_faults = num_faults
        self.events: list[str] = []
        self.num_calls = 0
        self._lock = threading.Lock()

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str, on_token: object
    ) -> Generation:
        await asyncio.sleep(0)
        with self._lock:
            self.num_calls += 1
            if self.num_faults:
                self.num_faults -= 1
                raise EngineError("the engine caught fire")
        return Generation(
            token_ids=list(ANSWER), logprobs=[-0.5] * len(ANSWER), policy_versions=[0] * len(ANSWER)
        )

    def open_session(self, session: str) -> None:
        self.events.append(f"+{session}")

    def close_session(self, session: str) -> None:
        self.events.append(f"-{session}")

    async def aclose(self) -> None:
        pass


def runner_of(
    workflow_class: type[Workflow],
    *,
    judge: BaseJudge | None = None,
    engine: FakeEngine | None = None,
) -> EpisodeRunner:
    gateway = Gateway(
        chat_format=ByteFormat(),  # type: ignore[arg-type]
        engine=engine or FakeEngine(),
        defaults=SamplingDefaults(max_tokens=8),
    )
    return EpisodeRunner(workflow_class=workflow_class, gateway=gateway, judge=judge)


def rollout_of(
    workflow_class: type[Workflow], engine: FakeEngine | None = None, **limits: Any
) -> Rollout:
    return Rollout(runner=runner_of(workflow_class, engine=engine), seed=0, **limits)


def attempt_of(task: Task | None = None, repeat_index: int = 0) -> Attempt:
    task = task or Task(main_query="1 + 1", task_id="t", metadata={"answer": "2"})
    return Attempt(seed=0, tag="test", task=task, group_index=0, repeat_index=repeat_index)


def tasks_of(count: int) -> list[Task]:
    return [Task(main_query=str(i), task_id=f"t{i}") for i in range(count)]


def returning(value: Any, *, agents: Sequence[str] = ("agent",)) -> type[Workflow]:
    """A workflow in which each of `agents` makes one call, and that returns `value`."""

    class Returning(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            for name in agents:
                await ask(tuner, name)
            return value

    return Returning


async def ask(tuner: Any, agent_name: str = "agent", text: str = "hi") -> str:
    """One call through the client of the OpenAI SDK."""
    client: AsyncOpenAI = tuner.as_raw_openai_sdk_client(agent_name, target_tag=agent_name)
    completion = await client.chat.completions.create(
        model="policy", messages=[{"role": "user", "content": text}]
    )
    return completion.choices[0].message.content or ""


def rewarded(reward: Any = 1.0, **fields: Any) -> WorkflowOutput:
    return WorkflowOutput(reward=reward, **fields)


def query_of(workflow_task: Any) -> int:
    return int(workflow_task.task.main_query)


def run_episode(workflow_class: type[Workflow], **options: Any) -> Episode:
    return asyncio.run(runner_of(workflow_class, **options).run(attempt_of()))


class FixedJudge(BaseJudge):
    def __init__(self, verdict: Any) -> None:
        super().__init__(None)
        self.verdict = verdict
        self.outputs: list[WorkflowOutput] = []

    def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
        self.outputs.append(workflow_output)
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict


def assert_failed(episode: Episode, kind: str, *words: str) -> None:
    assert episode.failure is not None
    assert episode.failure.kind == kind, episode.failure
    for word in words:
        assert word in episode.failure.message
    assert episode.reward is None
    assert episode.call_rewards is None
    assert episode.is_success is None
    assert episode.samples == []
    sampled = sum(len(call.completion_ids) for call in episode.calls)
    assert sum(episode.dropped_tokens.values()) == sampled
