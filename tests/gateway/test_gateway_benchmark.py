"""The benchmark's parts work together; its figures are not tested."""

from __future__ import annotations

import pytest

from benchmarks import gateway, gateway_growth
from benchmarks.gateway import CORE, OTHER_CORE, Child, in_process, over_http
from benchmarks.gateway_growth import growth

KEYS = {"client", "concurrency", "cpu_ms_per_call", "calls_per_s", "added_p50_ms", "added_p99_ms"}


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setattr(gateway, "CONCURRENCY", (2,))
    monkeypatch.setattr(gateway, "EPISODES", {2: 2})
    monkeypatch.setattr(gateway, "TURNS", 1)
    monkeypatch.setattr(gateway_growth, "EPISODES", 1)
    monkeypatch.setattr(gateway_growth, "LATE", 20)
    monkeypatch.setattr(gateway_growth, "SPAN", 2)


def test_over_http():
    with (
        Child("benchmarks.gateway_server", CORE) as server,
        Child("benchmarks.gateway_client", OTHER_CORE) as clients,
    ):
        rows = over_http(server, clients, 1.0)
        grown = growth(server.ask)
    assert [row["client"] for row in rows] == ["http", "http_stream"]
    assert all(row.keys() >= KEYS and row["calls"] == 28 for row in rows)
    assert grown["late_prompt_tokens"] == grown["early_prompt_tokens"]


def test_in_process():
    with Child("benchmarks.gateway_in_process", CORE) as child:
        rows = in_process(child, 1.0)
    assert [row["client"] for row in rows] == [
        "client_library",
        "in_process",
        "client_library_stream",
        "in_process_stream",
    ]
    assert all(row.keys() >= KEYS and row["calls"] == 28 for row in rows)


def test_histories_are_of_about_2000_tokens():
    with (
        Child("benchmarks.gateway_server", CORE) as server,
        Child("benchmarks.gateway_client", OTHER_CORE) as clients,
    ):
        target = server.ask(open=1)
        case = {"concurrency": 1, "stream": False, "calls": gateway.CALLS}
        tokens = clients.ask(**target, **case)["prompt_tokens"]
    assert 1900 < sum(tokens) / len(tokens) < 2100
