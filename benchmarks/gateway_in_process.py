"""The OpenAI client in the gateway's process, and the client library alone.

Reads JSON lines (`client`, `concurrency`, `episodes`, `calls`, `stream`) and answers each with
the latencies and the CPU seconds of this process. As in a rollout, every episode has a thread and
an event loop; threads and clients are made before the measurement starts. `client_library` is the
same client over a transport that gives every request the same answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from openai import AsyncOpenAI

from ajet.gateway.clients.openai_client import BASE_URL, InProcessTransport
from benchmarks.gateway_server import Episodes, cpu_s
from benchmarks.gateway_workload import Conversation


class ConstantTransport(httpx2.AsyncBaseTransport):
    """Answers every request with the first answer of the gateway."""

    def __init__(self, answer: httpx2.Response, body: bytes | list[bytes]) -> None:
        self._answer = answer
        self._body = body

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer."""
        await request.aread()
        status, headers = self._answer.status_code, self._answer.headers
        if isinstance(self._body, bytes):
            return httpx2.Response(status, headers=headers, content=self._body)
        return httpx2.Response(status, headers=headers, stream=_Chunks(self._body))


class _Chunks(httpx2.AsyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


async def constant_transport(episodes: Episodes, stream: bool) -> ConstantTransport:
    """Ask the gateway once and keep its answer."""
    client = episodes.open(1)[0].as_raw_openai_sdk_client()
    request = httpx2.Request(
        "POST", f"{BASE_URL}/chat/completions", content=Conversation().body(stream=stream)
    )
    transport: Any = client._client._transport
    assert isinstance(transport, InProcessTransport)
    answer = await transport.handle_async_request(request)
    body = [chunk async for chunk in answer.stream] if stream else await answer.aread()  # type: ignore[union-attr]
    return ConstantTransport(answer, body)


async def talk(client: AsyncOpenAI, calls: int, stream: bool) -> list[float]:
    """Run one episode and return the latency of each call."""
    conversation, latencies_s = Conversation(), []
    for _ in range(calls):
        started_s = time.perf_counter()
        answer: Any = await client.chat.completions.create(
            model="policy",
            messages=conversation.messages,  # type: ignore[arg-type]
            stream=stream,
        )
        if stream:
            chunks = [chunk async for chunk in answer]
            text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
        else:
            text = answer.choices[0].message.content
        latencies_s.append(time.perf_counter() - started_s)
        conversation.go_on(text)
    return latencies_s


def measure(
    episodes: Episodes,
    *,
    client: str,
    concurrency: int,
    episodes_each: int,
    calls: int,
    stream: bool,
) -> dict[str, Any]:
    """Run `concurrency` threads with `episodes_each` episodes each, one after the other."""
    constant = asyncio.run(constant_transport(episodes, stream))
    latencies_s: list[float] = []
    ready, done = threading.Barrier(concurrency + 1), threading.Barrier(concurrency + 1)

    def client() -> AsyncOpenAI:
        if client == "in_process":
            return episodes.open(1)[0].as_raw_openai_sdk_client()
        http_client = httpx2.AsyncClient(transport=constant, trust_env=False, timeout=None)
        return AsyncOpenAI(base_url=BASE_URL, api_key="-", http_client=http_client, max_retries=0)

    async def work() -> None:
        clients = [client() for _ in range(episodes_each)]
        await talk(client(), 2, stream)
        ready.wait()
        for each in clients:
            latencies_s.extend(await talk(each, calls, stream))
        done.wait()

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    ready.wait()
    cpu_before_s, wall_before_s = cpu_s(), time.perf_counter()
    done.wait()
    used_s, wall_s = cpu_s() - cpu_before_s, time.perf_counter() - wall_before_s
    for thread in threads:
        thread.join()
    episodes.close()
    return {"latencies_s": latencies_s, "cpu_s": used_s, "wall_s": wall_s}


def main() -> None:
    """Serve until standard input ends."""
    episodes = Episodes()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(measure(episodes, **json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
