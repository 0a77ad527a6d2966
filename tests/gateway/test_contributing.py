"""The examples of CONTRIBUTING.md for a client and a wire API work as they stand."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ajet.gateway.apis.routes import APIS, respond
from ajet.tuner import CLIENTS, AjetTuner
from tests.contributing import write_examples
from tests.gateway.gateway_fakes import agent_of


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLIENTS, "ask", "ask_client->ask_client")
    for name in ("ask", "ask_client->ask_client", f"{tmp_path}/ask_client.py->ask_client"):
        agent = agent_of(["It is four."])
        tuner = AjetTuner(config=None, gateway=agent.session._gateway, record=agent.record)
        assert asyncio.run(tuner.as_client(name)("2 + 2?")) == "It is four."
        assert len(agent.tracker.calls) == 1


def test_wire_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(APIS, "/v1/ask", "ask_api->AskApi")
    agent = agent_of(["It is four."])
    body = json.dumps({"question": "2 + 2?"}).encode()
    reply = asyncio.run(respond(agent.session, "POST", "/v1/ask", body))
    assert (reply.status, json.loads(reply.body)) == (200, {"answer": "It is four."})
    assert len(agent.tracker.calls) == 1
