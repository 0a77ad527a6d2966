"""A thousand concurrent episodes, in process and over HTTP.

All complete, memory stays flat, and the samples are the same as when they run one by one.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import resource
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from ajet import AjetTuner, Task, Workflow, WorkflowOutput, WorkflowTask
from ajet.engine.scripted import ScriptedEngine
from ajet.schema.episode import Group, SamplingParams
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import EpisodeRunner
from tests.gateway.server_fakes import ANSWER_IDS, CHAT_FORMAT, Served

EPISODES = 1000
CALLS = 5
FILES_NEEDED = 8 * EPISODES
"""Both ends of a connection and an event loop for each episode, with room to spare."""

pytestmark = pytest.mark.slow

all_there = threading.Barrier(1)


class FiveCalls(Workflow):
    """Waits until all parties of the barrier have started, then makes its calls."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        messages = [{"role": "user", "content": workflow_task.task.main_query}]
        all_there.wait()
        async with self.agent(tuner) as ask:
            for call in range(CALLS):
                answer = await ask(messages)
                messages += [
                    {"role": "assistant", "content": answer},
                    {"role": "user", "content": f"{call} + {len(answer)}?"},
                ]
        return WorkflowOutput(reward=float(len(answer)))

    def agent(self, tuner: AjetTuner) -> Any:
        raise NotImplementedError


class OverHttp(FiveCalls):
    def agent(self, tuner: AjetTuner) -> Any:
        return _HttpAgent(tuner)


class _HttpAgent:
    """An agent that blocks, as many do."""

    def __init__(self, tuner: AjetTuner) -> None:
        endpoint = tuner.as_oai_baseurl_apikey()
        self._headers = {"Authorization": f"Bearer {endpoint.api_key}"}
        self._connection = http.client.HTTPConnection(urlsplit(endpoint.base_url).netloc)

    async def __aenter__(self) -> Any:
        return self._ask

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()

    async def _ask(self, messages: list[dict[str, str]]) -> str:
        body = json.dumps({"messages": messages})
        self._connection.request("POST", "/v1/chat/completions", body, self._headers)
        answer = self._connection.getresponse()
        assert answer.status == 200
        content: str = json.load(answer)["choices"][0]["message"]["content"]
        return content


class InProcess(FiveCalls):
    def agent(self, tuner: AjetTuner) -> Any:
        return _InProcessAgent(tuner)


class _InProcessAgent:
    def __init__(self, tuner: AjetTuner) -> None:
        self._client = tuner.as_raw_openai_sdk_client()

    async def __aenter__(self) -> Any:
        return self._ask

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def _ask(self, messages: list[dict[str, str]]) -> str:
        answer = await self._client.chat.completions.create(model="policy", messages=messages)
        return answer.choices[0].message.content


def answer_of(prompt_ids: list[int], params: SamplingParams, session: str) -> list[int]:
    """An answer that depends only on what an engine may look at."""
    seen = hashlib.sha256(repr((prompt_ids, params.seed, session)).encode()).digest()
    digits = [ids[0] for ids in map(CHAT_FORMAT.tokenizer.encode, "0123456789")]
    return [*(digits[byte % 10] for byte in seen[: 1 + seen[31] % 9]), ANSWER_IDS[-1]]


def run(workflow_class: type[Workflow], served: Served, num_workers: int) -> list[Group]:
    global all_there
    all_there = threading.Barrier(num_workers)
    rollout = Rollout(
        runner=EpisodeRunner(workflow_class=workflow_class, gateway=served.gateway),
        seed=0,
        max_env_worker=num_workers,
    )
    tasks = [Task(main_query=f"{i} + {i}?", task_id=f"t{i}") for i in range(EPISODES)]
    groups = rollout.run(tasks, num_repeat=1, tag="load")
    served.engine.requests.clear()
    return groups


def digests(groups: list[Group]) -> list[str]:
    """A digest of each episode's samples and reward."""
    found = []
    for group in groups:
        (episode,) = group.episodes
        assert episode.failure is None, episode.failure
        assert len(episode.calls) == CALLS
        (sample,) = episode.samples
        arrays = [sample.ids, sample.loss_mask, sample.logprobs, sample.call_index]
        content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        found.append(hashlib.sha256(content + repr(episode.reward).encode()).hexdigest())
    return found


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


@pytest.fixture
def served() -> Iterator[Served]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < FILES_NEEDED:
        pytest.skip(f"{hard} open files are allowed, {FILES_NEEDED} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES_NEEDED), hard))
    served = Served(ScriptedEngine(answer_of))
    yield served
    served.http_endpoint.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("workflow_class", [OverHttp, InProcess])
def test_a_thousand_episodes_at_once_give_what_one_at_a_time_gives(workflow_class, served):
    alone = digests(run(workflow_class, served, 1))
    assert len(set(alone)) == EPISODES, "each episode is unlike every other"
    memory = []
    for _ in range(3):
        assert digests(run(workflow_class, served, EPISODES)) == alone
        memory.append(resident_mb())
    assert memory[2] < 1.1 * memory[0], f"MB after each round: {memory}"
