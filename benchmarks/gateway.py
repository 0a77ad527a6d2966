"""Cost of a model call in the gateway, compared with LiteLLM's proxy.

    make .venv-litellm
    python benchmarks/gateway.py --json

Every client has the same conversations (histories around 2,000 tokens, 14 calls each) with the
scripted engine, at 1, 16 and 128 episodes at once, on warm connections. The process under test has
the first core to itself; its clients run in another process on another core. LiteLLM's proxy gets
the same requests in front of a backend that answers at once.

`cpu_ms_per_call` is the CPU time of the process under test, as the operating system counts it.
`calls_per_s` is the number of calls per second of CPU time. Other programs on the machine hardly
change these two, but they do change `wall_calls_per_s` and the latencies.

`added_p50_ms` and `added_p99_ms`:

- `http`: the whole latency, because the engine takes no time;
- `in_process`: the latency minus that of the client library alone (`client_library`: the same
  client over a transport that answers a constant). `cpu_ms_beyond_library` is the same for CPU
  time;
- LiteLLM: the latency minus that of the backend alone.

`growth_200_over_10`: CPU time of the last calls of episodes with 200 calls, divided by that of the
tenth calls of episodes that start with more text, so that the histories are equally long. These
calls use HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # lets `python benchmarks/gateway.py` import the package `benchmarks`

from benchmarks.gateway_growth import growth
from benchmarks.gateway_workload import CALLS
from benchmarks.peers.litellm_proxy import API_KEY, LiteLLM

ROOT = Path(__file__).resolve().parents[1]
CONCURRENCY = (1, 16, 128)
EPISODES = {1: 40, 16: 96, 128: 256}
"""By concurrency."""
CLIENTS = ("client_library", "in_process")
TURNS = 3
"""Rounds of each client; they alternate, so that other load on the machine affects both."""
LITELLM_EPISODES = {1: 4, 16: 32, 128: 128}
CORE, *_, OTHER_CORE = [*sorted(os.sched_getaffinity(0))] * 2


class Child:
    """A process that answers a line of JSON with a line of JSON."""

    def __init__(self, module: str, core: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closing its standard input ends the process


def over_http(server: Child, clients: Child, share: float) -> list[dict[str, Any]]:
    """Measure the rows `http` and `http_stream`."""
    rows = []
    for stream, concurrency in _cases():
        count = max(concurrency, round(EPISODES[concurrency] * share))
        _load(clients, server.ask(open=concurrency), concurrency, stream, calls=2)
        opened = server.ask(open=count)
        before_s = server.ask(usage=True)["cpu_s"]
        result = _load(clients, opened, concurrency, stream)
        usage = server.ask(usage=True)
        server.ask(close=True)
        row = _row("http", stream, concurrency, result, usage["cpu_s"] - before_s)
        rows.append(row | {"resident_mb": round(usage["resident_mb"])})
    return rows


def in_process(child: Child, share: float) -> list[dict[str, Any]]:
    """Measure the rows `client_library` and `in_process`, which take turns."""
    rows = []
    for stream, concurrency in _cases():
        each = max(1, round(EPISODES[concurrency] * share / concurrency / TURNS))
        case = {"concurrency": concurrency, "episodes_each": each, "stream": stream}
        library, result = _added(
            [
                [child.ask(client=name, calls=CALLS, **case) for name in CLIENTS]
                for _ in range(TURNS)
            ]
        )
        floor = _row("client_library", stream, concurrency, library, library["cpu_s"])
        row = _row(
            "in_process", stream, concurrency, result, result["cpu_s"], floor["added_p50_ms"]
        )
        row["cpu_ms_beyond_library"] = row["cpu_ms_per_call"] - floor["cpu_ms_per_call"]
        rows += [floor, row]
    return rows


def _added(turns: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Add up the turns of each client."""
    return [
        {key: sum((result[key] for result in results[1:]), results[0][key]) for key in results[0]}
        for results in zip(*turns, strict=True)
    ]


def over_litellm(litellm: LiteLLM, clients: Child, share: float) -> list[dict[str, Any]]:
    """Measure the rows of LiteLLM's proxy."""
    rows = []
    for stream, concurrency in _cases():
        count = max(concurrency, round(LITELLM_EPISODES[concurrency] * share))
        keys = {"api_keys": [API_KEY] * count}
        proxy = keys | {"base_url": litellm.base_url}
        backend = keys | {"base_url": litellm.backend_url}
        floor = _row("", stream, concurrency, _load(clients, backend, concurrency, stream), 0)
        _load(clients, proxy, concurrency, stream, calls=2)
        before_s = litellm.cpu_s()
        result = _load(clients, proxy, concurrency, stream)
        used_s = litellm.cpu_s() - before_s
        rows.append(_row("litellm", stream, concurrency, result, used_s, floor["added_p50_ms"]))
    return rows


def _cases() -> list[tuple[bool, int]]:
    return [(stream, concurrency) for stream in (False, True) for concurrency in CONCURRENCY]


def _load(
    clients: Child, target: dict[str, Any], concurrency: int, stream: bool, calls: int = CALLS
) -> dict[str, Any]:
    return clients.ask(**target, concurrency=concurrency, stream=stream, calls=calls)


def _row(
    client: str,
    stream: bool,
    concurrency: int,
    result: dict[str, Any],
    used_s: float,
    floor_ms: float = 0.0,
) -> dict[str, Any]:
    latencies_ms = sorted(1e3 * seconds for seconds in result["latencies_s"])
    count = len(latencies_ms)
    return {
        "client": f"{client}_stream" if stream else client,
        "concurrency": concurrency,
        "calls": count,
        "cpu_ms_per_call": 1e3 * used_s / count,
        "calls_per_s": count / used_s if used_s else None,
        "wall_calls_per_s": count / result["wall_s"],
        "added_p50_ms": latencies_ms[count // 2] - floor_ms,
        "added_p99_ms": latencies_ms[count * 99 // 100] - floor_ms,
    }


def _ratio(rows: list[dict[str, Any]], litellm: list[dict[str, Any]]) -> float:
    """Smallest ratio of calls per CPU-second over all numbers of episodes, without streaming."""
    ours = {row["concurrency"]: row["calls_per_s"] for row in rows if row["client"] == "http"}
    theirs = {
        row["concurrency"]: row["calls_per_s"] for row in litellm if row["client"] == "litellm"
    }
    return min(ours[concurrency] / theirs[concurrency] for concurrency in ours)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="What a model call costs in the gateway.")
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of episodes")
    share = parser.parse_args(arguments).share
    with ExitStack() as stack:
        clients = stack.enter_context(Child("benchmarks.gateway_client", OTHER_CORE))
        with Child("benchmarks.gateway_server", CORE) as server:
            rows = over_http(server, clients, share)
            grown = growth(server.ask)
        with LiteLLM(CORE, OTHER_CORE) as proxy:
            litellm = over_litellm(proxy, clients, share)
        with Child("benchmarks.gateway_in_process", CORE) as child:
            rows += in_process(child, share)
    report = {
        "rows": rows,
        "litellm": litellm,
        "ratio_calls_per_s": _ratio(rows, litellm),
        "growth_200_over_10": grown.pop("ratio"),
        "growth": grown,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(_rounded(report), indent=1))


def _rounded(value: Any) -> Any:
    """Round every number to three decimals."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
