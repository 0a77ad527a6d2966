"""One vLLM server as the engine sees it: whether it is alive, its restart, its weights."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from ajet.engine.vllm.client import ServerLost, VllmClient
from ajet.engine.vllm.server import VllmServer
from ajet.errors import EngineError

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Replica:
    """A server that serves the same weights as the engine's other servers."""

    client: VllmClient
    process: VllmServer | None = None
    """None: the server is not ours, so we cannot restart it."""
    is_up: bool = True
    was_restarted: bool = False
    num_sessions: int = 0
    """Number of episodes whose calls go to this server."""

    async def has_ended(self) -> bool:
        """Whether the server has ended, or only a connection to it broke."""
        for _ in range(3):
            if not await self.client.is_healthy():
                return True
            await asyncio.sleep(0.2)  # an ending process may still answer for a moment
        return self.process is not None and self.process.how_it_ended() is not None

    async def restart(self, error: ServerLost) -> None:
        """Start a server that has ended again, once.

        Raises:
            ServerLost: the server is not ours; this is `error` again.
            EngineError: it had already been restarted, or does not serve what it did before.
            ServiceError: it did not start.
        """
        if self.process is None:
            raise error
        how = await _exit_reason(self.process, error)
        if self.was_restarted:
            raise EngineError(f"{how}\nIt had already been restarted once; not restarting again")
        self.was_restarted = True
        logger.error("a vLLM server is lost; restarting it once: %s", how)
        await asyncio.to_thread(self.process.start)
        await asyncio.to_thread(self.process.wait_until_ready)
        await self.client.connect()
        await self.client.check_extension()

    async def load_weights(self, folder: Path) -> None:
        """Load the weights in a folder's safetensors files.

        Raises:
            EngineError: the server cannot take new weights, or did not load these.
        """
        if self.process is None:  # our own servers were checked when they started
            await self.client.check_extension()
        await self.client.load_weights(folder)


async def _exit_reason(process: VllmServer, error: ServerLost) -> str:
    """Exit status and end of the log of a process, or the call's error if it still runs."""
    for _ in range(20):  # the exit status is known only a moment after the last answer
        if ended := process.how_it_ended():
            return ended
        await asyncio.sleep(0.1)
    return str(error)
