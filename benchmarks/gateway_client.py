"""The clients of the gateway's benchmark: a process that sends, waits and takes the time.

Reads one JSON object on standard input (`base_url`, `api_keys`, `concurrency`, `stream`,
`warm_up`) and prints one with the latencies in seconds. HTTP is written by hand, so that the
client costs little and measures the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from benchmarks.gateway_workload import CALLS, Conversation


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

    async def post(self, body: bytes, api_key: str) -> bytes:
        """The body of the answer."""
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

    async def _chunks(self) -> Any:
        while size := int(await self._reader.readline(), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()


async def episode(
    connection: Connection, api_key: str, *, stream: bool, calls: int
) -> tuple[list[float], int]:
    """Latencies, and the sum of the prompts' tokens."""
    conversation = Conversation.begin()
    latencies, tokens = [], 0
    for _ in range(calls):
        body = conversation.body(model="policy", stream=stream)
        started = time.perf_counter()
        answer = await connection.post(body, api_key)
        latencies.append(time.perf_counter() - started)
        if stream:
            conversation.go_on({"role": "assistant", "content": streamed_text(answer)})
        else:
            content = json.loads(answer)
            conversation.go_on(content["choices"][0]["message"])
            tokens += content["usage"]["prompt_tokens"]
    return latencies, tokens


def streamed_text(answer: bytes) -> str:
    """The content of all deltas."""
    events = [line[6:] for line in answer.split(b"\n\n") if line.startswith(b"data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def load(
    base_url: str, api_keys: list[str], concurrency: int, stream: bool, warm_up: bool
) -> dict[str, Any]:
    """Run an episode for each key, so many at a time."""
    waiting = list(api_keys)
    latencies: list[float] = []
    tokens = 0

    async def work() -> None:
        nonlocal tokens
        connection = Connection(base_url)
        await connection.open()
        while waiting:
            calls = 2 if warm_up else CALLS
            seconds, count = await episode(connection, waiting.pop(), stream=stream, calls=calls)
            latencies.extend(seconds)
            tokens += count

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return {
        "latencies_s": latencies,
        "wall_s": time.perf_counter() - started,
        "mean_prompt_tokens": tokens / len(latencies),
    }


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asyncio.run(load(**json.loads(line)))) + "\n")
        sys.stdout.flush()
