"""Messages from a run's processes to its main process, which alone writes the run's folder."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import ray
from ray import cloudpickle
from ray.actor import ActorHandle

from ajet.schema.episode import Group, TaskResult, Waiting

NAME = "ajet-mailbox"


@dataclass(slots=True, kw_only=True, frozen=True)
class Explored:
    """From the explorer: a batch of episodes is finished and in the buffer."""

    step: int
    """Number of the batch, from 1."""
    metrics: dict[str, float]
    """Metrics of the batch, under Trinity's names."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Trained:
    """From the trainer: a step is finished."""

    step: int
    groups: list[Group]
    """Groups that the step was trained on."""
    stale: list[Group]
    """Groups that were dropped because they were too old."""
    results: list[TaskResult]
    """Results of the trained and the dropped groups; empty without a curriculum."""
    metrics: dict[str, float]
    """Under their public names; Trinity's own under `trinity/`."""
    num_samples: int
    """Samples in `groups` that were trained."""
    num_stale_samples: int
    """Samples in `stale` that would have been trained."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Published:
    """From the trainer: it is about to send these weights."""

    version: int
    probe: list[float]
    """[L - 1] logprobs of the probe's ids but the first."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Arrived:
    """From the explorer: the engines have these weights; it waits until they are released."""

    version: int
    probes: list[list[float]]
    """[engines, L - 1] logprobs of the probe's ids but the first."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Waits:
    """From a process that runs episodes: some of them have waited for a while."""

    tag: str
    """Name of their batch."""
    waits: list[Waiting]


@dataclass(slots=True, kw_only=True, frozen=True)
class Failed:
    """From any process: the run cannot continue."""

    reason: str


Message = Explored | Trained | Published | Arrived | Waits | Failed


class Mailbox:
    """A Ray actor that queues messages, and holds new weights back until they are released.

    It handles messages as bytes, so that its process does not import what is in them.
    """

    def __init__(self) -> None:
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()
        self._released = asyncio.Condition()
        self._released_version = -1
        self._results: list[bytes] = []

    async def report(self, message: bytes) -> None:
        """Add a message, encoded by `dumps`."""
        await self._messages.put(message)

    async def next(self, timeout_s: float) -> bytes | None:
        """Remove and return the oldest message; None if none arrives in time."""
        try:
            return await asyncio.wait_for(self._messages.get(), timeout_s)
        except TimeoutError:
            return None

    async def add_results(self, results: bytes) -> None:
        """Keep the results of tasks, a list of `TaskResult`, for who chooses the next tasks."""
        self._results.append(results)

    async def take_results(self) -> list[bytes]:
        """Remove and return the results that came since this was last called."""
        results, self._results = self._results, []
        return results

    async def wait_for_release(self, version: int) -> None:
        """Wait until `release_weights` was called for this version or a newer one."""
        async with self._released:
            await self._released.wait_for(lambda: self._released_version >= version)

    async def release_weights(self, version: int) -> None:
        """Let the explorer sample with the weights of this version."""
        async with self._released:
            self._released_version = version
            self._released.notify_all()


def open_mailbox(namespace: str) -> ActorHandle:
    """Start the mailbox of a new run."""
    return ray.remote(Mailbox).options(name=NAME, namespace=namespace, num_cpus=0).remote()


def find_mailbox(namespace: str) -> ActorHandle:
    """The mailbox of the run that this process belongs to."""
    return ray.get_actor(NAME, namespace=namespace)


def dumps(message: Message) -> bytes:
    """Encode a message for `Mailbox.report`."""
    return bytes(cloudpickle.dumps(message))


def loads(message: bytes) -> Message:
    """Decode a message from `Mailbox.next`."""
    content: Message = cloudpickle.loads(message)
    return content
