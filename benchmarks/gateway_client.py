"""The clients of the gateway benchmark: a process that sends requests and measures latencies.

Reads one JSON object per line (`base_url`, `api_keys`, `concurrency`, `stream`, `calls`), runs one
episode per key, and writes one line with the latencies. It speaks HTTP without a client library, so
that the client costs little and the server is what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from benchmarks.gateway_workload import Conversation, streamed_text


class Connection:
    """One kept-alive connection, one request at a time."""

    def __init__(self, base_url: str) -> None:
        self._url = urlsplit(base_url)

    async def open(self) -> None:
        """Connect."""
        assert self._url.hostname and self._url.port
        self._reader, self._writer = await asyncio.open_connection(
            self._url.hostname, self._url.port
        )

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self._reader.at_eof()

    async def post(self, body: bytes, api_key: str) -> bytes:
        """Send a request and return the body of the answer."""
        head = (
            f"POST {self._url.path}/chat/completions HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            f"Authorization: Bearer {api_key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert answer.startswith(b"http/1.1 200"), answer
        _, length, rest = answer.partition(b"\r\ncontent-length: ")
        if length:
            return await self._reader.readexactly(int(rest.partition(b"\r\n")[0]))
        return b"".join([chunk async for chunk in self._chunks()])

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readline(), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()


async def load(
    connections: list[Connection],
    *,
    base_url: str,
    api_keys: list[str],
    concurrency: int,
    stream: bool,
    calls: int,
) -> dict[str, Any]:
    """Run one episode per key, `concurrency` at a time; opens missing connections."""
    connections[:] = [connection for connection in connections if not connection.is_closed]
    while len(connections) < concurrency:
        connections.append(Connection(base_url))
        await connections[-1].open()
    waiting = list(api_keys)
    latencies_s: list[float] = []
    prompt_tokens: list[int] = []

    async def work(connection: Connection) -> None:
        while waiting:
            await episode(connection, waiting.pop())

    async def episode(connection: Connection, api_key: str) -> None:
        conversation = Conversation()
        for _ in range(calls):
            body = conversation.body(stream=stream)
            started_s = time.perf_counter()
            answer = await connection.post(body, api_key)
            latencies_s.append(time.perf_counter() - started_s)
            if stream:
                conversation.go_on(streamed_text(answer))
            else:
                content = json.loads(answer)
                prompt_tokens.append(content["usage"]["prompt_tokens"])
                conversation.go_on(content["choices"][0]["message"]["content"])

    started_s = time.perf_counter()
    await asyncio.gather(*(work(connection) for connection in connections[:concurrency]))
    wall_s = time.perf_counter() - started_s
    return {"latencies_s": latencies_s, "wall_s": wall_s, "prompt_tokens": prompt_tokens}


async def main() -> None:
    """Serve until standard input ends; connections stay open between lines."""
    connections: dict[str, list[Connection]] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        answer = await load(connections.setdefault(command["base_url"], []), **command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
