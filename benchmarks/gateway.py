"""What a model call costs on its way through the gateway, and through LiteLLM's proxy.

    make .venv-litellm
    python benchmarks/gateway.py --json

Every door answers the same conversations (histories around 2,000 tokens, 14 calls each) from the
scripted engine, at 1, 16 and 128 episodes at once, on warm connections. The process under test is
alone on the first core; whoever talks to it has another process on another core. LiteLLM's proxy
stands in the same place in front of a backend that answers at once.

`cpu_ms_per_call` is of the process under test, as the operating system counts it, and
`calls_per_s` is what a core gives at that: calls for each second of CPU time. Both are hardly
disturbed by what else runs on the machine; `wall_calls_per_s` and the latencies are.

`added_p50_ms` and `added_p99_ms`:

- `http`: all that the client waits, since the engine takes no time;
- `in_process`: less what the client library itself takes (`client_library`: the same client over a
  transport that answers a constant), of which `cpu_ms_beyond_library` is the rest as well;
- LiteLLM: less what the client waits for the backend alone.

`growth_200_over_10`: CPU time of the last calls of episodes of 200, over that of the tenth calls
of episodes whose history is as long because they began with more text. Over HTTP.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from benchmarks.gateway_growth import growth
from benchmarks.gateway_workload import CALLS
from benchmarks.peers.litellm_proxy import API_KEY, LiteLLM

ROOT = Path(__file__).resolve().parents[1]
CONCURRENCY = (1, 16, 128)
EPISODES = {1: 40, 16: 96, 128: 256}
"""By concurrency."""
DOORS = ("client_library", "in_process")
TURNS = 3
"""Of each of these: what disturbs one then disturbs the other."""
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
        self._process.communicate()  # closes standard input, which ends it


def over_http(server: Child, clients: Child, share: float) -> list[dict[str, Any]]:
    """Rows of the doors `http` and `http_stream`."""
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
    """Rows of the doors `client_library` and `in_process`, which take turns."""
    rows = []
    for stream, concurrency in _cases():
        each = max(1, round(EPISODES[concurrency] * share / concurrency / TURNS))
        case = {"concurrency": concurrency, "episodes_each": each, "stream": stream}
        library, result = _added(
            [[child.ask(door=door, calls=CALLS, **case) for door in DOORS] for _ in range(TURNS)]
        )
        floor = _row("client_library", stream, concurrency, library, library["cpu_s"])
        row = _row(
            "in_process", stream, concurrency, result, result["cpu_s"], floor["added_p50_ms"]
        )
        row["cpu_ms_beyond_library"] = row["cpu_ms_per_call"] - floor["cpu_ms_per_call"]
        rows += [floor, row]
    return rows


def _added(turns: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The results of each door's turns as one."""
    return [
        {key: sum((result[key] for result in results[1:]), results[0][key]) for key in results[0]}
        for results in zip(*turns, strict=True)
    ]


def over_litellm(litellm: LiteLLM, clients: Child, share: float) -> list[dict[str, Any]]:
    """Rows of LiteLLM's proxy."""
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
    door: str,
    stream: bool,
    concurrency: int,
    result: dict[str, Any],
    used_s: float,
    floor_ms: float = 0.0,
) -> dict[str, Any]:
    latencies_ms = sorted(1e3 * seconds for seconds in result["latencies_s"])
    count = len(latencies_ms)
    return {
        "door": f"{door}_stream" if stream else door,
        "concurrency": concurrency,
        "calls": count,
        "cpu_ms_per_call": 1e3 * used_s / count,
        "calls_per_s": count / used_s if used_s else None,
        "wall_calls_per_s": count / result["wall_s"],
        "added_p50_ms": latencies_ms[count // 2] - floor_ms,
        "added_p99_ms": latencies_ms[count * 99 // 100] - floor_ms,
    }


def _ratio(rows: list[dict[str, Any]], litellm: list[dict[str, Any]]) -> float:
    """The smallest, over all numbers of episodes, of calls per second of a core; no streams."""
    ours = {row["concurrency"]: row["calls_per_s"] for row in rows if row["door"] == "http"}
    theirs = {row["concurrency"]: row["calls_per_s"] for row in litellm if row["door"] == "litellm"}
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
    """Three decimals everywhere."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
