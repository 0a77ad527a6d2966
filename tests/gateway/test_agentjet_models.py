"""Helpers with which judges and agents written for AgentJet ask another model.

1. `create_external_llm_fn` gives a blocking function from messages to a message, for any
   OpenAI-compatible server; a server that fails is an infrastructure failure.
2. `RobustDashScopeChatModel` makes a failed call again, and gives up with such a failure.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from ajet.errors import EngineError
from ajet.task_rollout.dashscope_llm_bridge import create_external_llm_fn

MESSAGES = [{"role": "user", "content": "Grade this."}]


class Server(ThreadingHTTPServer):
    requests: list[dict[str, Any]]
    status = 200


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(json.loads(body))
        message = {"role": "assistant", "content": "good"}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "judge",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
        data = json.dumps(answer if self.server.status == 200 else {"error": {}}).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.requests = []
    monkeypatch.setenv("DASHSCOPE_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("DASHSCOPE_API_KEY", "key")
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_judge_asks_another_model(server: Server) -> None:
    ask = create_external_llm_fn(alien_llm_model="judge", alien_llm_response_length=64)
    assert ask(MESSAGES) == {"role": "assistant", "content": "good"}
    assert ask(messages=MESSAGES, sampling_params_override={"temperature": 0})["content"] == "good"
    assert server.requests[0] == {"model": "judge", "max_tokens": 64, "messages": MESSAGES}
    assert server.requests[1]["temperature"] == 0


def test_a_model_that_refuses_is_an_infrastructure_failure(server: Server) -> None:
    server.status = 400
    with pytest.raises(EngineError, match="judge at http://127.0.0.1:.* gave no answer"):
        create_external_llm_fn("judge", 64)(MESSAGES)


@pytest.mark.parametrize("failures", [2, 9])
def test_dashscope_is_asked_again(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    from agentscope.model import DashScopeChatModel

    from ajet.utils.robust_dashscope import RobustDashScopeChatModel

    attempts: list[object] = []

    async def answer(self: object, *args: object, **request: object) -> str:
        attempts.append(args)
        if len(attempts) <= failures:
            raise RuntimeError("busy")
        return "good"

    monkeypatch.setattr(DashScopeChatModel, "__call__", answer)
    model = RobustDashScopeChatModel("qwen-plus", api_key="key", retry_delay_s=0.0)
    if failures == 2:
        assert asyncio.run(model(MESSAGES)) == "good"
        assert len(attempts) == 3
    else:
        with pytest.raises(EngineError, match="no answer in 4 attempts: busy"):
            asyncio.run(model(MESSAGES))
