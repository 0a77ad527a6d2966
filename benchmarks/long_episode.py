"""CPU time of the calls of a long episode: does call 200 cost much more than call 10?

Each episode has 200 calls, and its history grows by two messages with each. Client, gateway and
tracker are in one process; the engine answers at once. The time of a call is the CPU time of the
whole process, the median over episodes and over ten neighbouring calls. `unchanged` is OpenAI's
client as the library makes it, over the same transport, for comparison.

    python benchmarks/long_episode.py --json [--episodes N] [--calls N]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from openai import AsyncOpenAI

from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.clients.openai_client import BASE_URL, http_client
from ajet.gateway.gateway import AgentSession
from ajet.tuner import AjetTuner
from benchmarks.gateway_server import Episodes
from benchmarks.gateway_workload import Conversation

Ask = Callable[[list[dict[str, Any]]], Awaitable[str]]
"""Sends the messages and returns the text of the answer."""

EARLY, SPAN = 10, 10


def openai_ask(tuner: AjetTuner) -> Ask:
    """Through `tuner.as_raw_openai_sdk_client()`."""
    return _ask_of(tuner.as_raw_openai_sdk_client())


def unchanged_ask(tuner: AjetTuner) -> Ask:
    """Through a client that the library made, without any change."""

    def client(session: AgentSession, _: HttpEndpoint) -> AsyncOpenAI:
        own = http_client(session)
        return AsyncOpenAI(base_url=BASE_URL, api_key="k", http_client=own, max_retries=0)

    return _ask_of(tuner.as_client(client))


def _ask_of(client: AsyncOpenAI) -> Ask:
    async def ask(messages: list[dict[str, Any]]) -> str:
        create: Any = client.chat.completions.create
        answer = await create(model="policy", messages=messages)
        return str(answer.choices[0].message.content)

    return ask


def agentscope_ask(tuner: AjetTuner) -> Ask:
    """Through `tuner.as_agentscope_model()`."""
    model = tuner.as_agentscope_model()

    async def ask(messages: list[dict[str, Any]]) -> str:
        answer = await model(messages)
        return str(answer.content[0]["text"])

    return ask


def http_ask(tuner: AjetTuner) -> Ask:
    """Over HTTP, with the standard library's client."""
    endpoint = tuner.as_oai_baseurl_apikey()
    connection = http.client.HTTPConnection(urlsplit(endpoint.base_url).netloc)
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}

    async def ask(messages: list[dict[str, Any]]) -> str:
        body = json.dumps({"model": "policy", "messages": messages})
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = json.load(connection.getresponse())
        return str(answer["choices"][0]["message"]["content"])

    return ask


CLIENTS = {
    "openai": openai_ask,
    "agentscope": agentscope_ask,
    "http": http_ask,
    "unchanged": unchanged_ask,
}


async def episode(ask: Ask, calls: int) -> list[float]:
    """CPU milliseconds of each call."""
    conversation = Conversation(system="You add.")
    times = []
    for _ in range(calls):
        started = time.process_time()
        answer = await ask(conversation.messages)
        times.append(1e3 * (time.process_time() - started))
        conversation.go_on(answer)
    return times


def measure(name: str, episodes: Episodes, count: int, calls: int) -> dict[str, Any]:
    """Cost of early and late calls with one client."""
    rows = []
    for _ in range(count + 1):
        (tuner,) = episodes.open(1)
        rows.append(asyncio.run(episode(CLIENTS[name](tuner), calls)))
        episodes.close()
    columns = [median(column) for column in zip(*rows[1:], strict=True)]  # the first one imports
    early = median(columns[EARLY - SPAN // 2 : EARLY + SPAN // 2])
    late = median(columns[-SPAN:])
    return {
        "client": name,
        "calls": calls,
        "cpu_ms_call_10": round(early, 3),
        "cpu_ms_last_call": round(late, 3),
        "ratio": round(late / early, 2),
    }


def main() -> None:
    """Print the rows, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    episodes = Episodes()
    rows = []
    for name in CLIENTS:
        rows.append(measure(name, episodes, options.episodes, options.calls))
        if not options.json:
            print(rows[-1], flush=True)
    episodes.http_endpoint.close()
    if options.json:
        print(json.dumps({"episodes": options.episodes, "clients": rows}, indent=1))


if __name__ == "__main__":
    main()
