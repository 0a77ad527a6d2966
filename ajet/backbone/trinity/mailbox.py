"""The run's letter box, a Ray actor: letters to the main process, and a gate for new weights."""

from __future__ import annotations

import asyncio

import ray
from ray import cloudpickle
from ray.actor import ActorHandle

from ajet.backbone.trinity.mailbox_messages import Letter

NAME = "ajet-desk"


class Mailbox:
    """Keeps letters in the order in which they came; it does not open them."""

    def __init__(self) -> None:
        self._letters: asyncio.Queue[bytes] = asyncio.Queue()
        self._passed = asyncio.Condition()
        self._version = -1

    async def report(self, letter: bytes) -> None:
        """Take a letter."""
        await self._letters.put(letter)

    async def next(self, timeout_s: float) -> bytes | None:
        """The oldest letter; None where none came in time."""
        try:
            return await asyncio.wait_for(self._letters.get(), timeout_s)
        except TimeoutError:
            return None

    async def wait_for_leave(self, version: int) -> None:
        """Wait until these weights may be used."""
        async with self._passed:
            await self._passed.wait_for(lambda: self._version >= version)

    async def give_leave(self, version: int) -> None:
        """These weights may be used."""
        async with self._passed:
            self._version = version
            self._passed.notify_all()


def open_desk(namespace: str) -> ActorHandle:
    """The desk of a new run."""
    return ray.remote(Mailbox).options(name=NAME, namespace=namespace, num_cpus=0).remote()


def find_mailbox(namespace: str) -> ActorHandle:
    """The desk of the run that this process belongs to."""
    return ray.get_actor(NAME, namespace=namespace)


def dumps(letter: Letter) -> bytes:
    """A letter for `Desk.report`."""
    return cloudpickle.dumps(letter)


def loads(letter: bytes) -> Letter:
    """What was sealed."""
    content: Letter = cloudpickle.loads(letter)
    return content
