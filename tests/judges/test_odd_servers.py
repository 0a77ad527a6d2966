"""Requests on the wire, and servers that answer in odd ways.

1. A request has the body and the headers that the OpenAI SDK would send, also after the first.
2. A response that breaks off, is no HTTP, or cannot be unpacked is tried again and named.
3. The size limit holds for a decompressed response; an error of any size keeps its status.
4. A redirect is followed; another server does not get the key.
5. A server without TLS, a name that does not exist and a proxy that is down are named.
6. Of an answer of a given form, nothing is guessed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, DefaultAioHttpClient

from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ModelCallError
from ajet.model_client import PLACE, ModelClient, attempts, endpoint
from ajet.model_client.answer_form import read_form
from ajet.task_judge.verdicts import scored_form
from tests.judges.model_server import Reply, serving

pytestmark = pytest.mark.filterwarnings("error")

HELLO = [{"role": "user", "content": "hello, 你好 👋"}]
KEY = "sk-very-secret-1234567890"
SCORE = scored_form(0, 10)
RIGHT = '{"reason": "so", "score": 7}'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLACE, "run_folder", tmp_path)
    monkeypatch.setattr(PLACE, "experiment_dir", tmp_path)
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("JUDGE_KEY", KEY)


def ask(url: str, **settings: Any) -> Any:
    given = {"model": "m", "base_url": url, "cache": False, "max_retries": 1, **settings}
    return ModelClient(ModelClientConfig(**given), purpose="judge").ask_blocking(HELLO)


def failing(url: str, **settings: Any) -> str:
    with pytest.raises(ModelCallError) as caught:
        ask(url, **settings)
    return str(caught.value)


def test_a_request_is_the_one_that_the_openai_sdk_sends():
    async def by_the_sdk(url: str, fields: dict[str, Any]) -> str:
        async with AsyncOpenAI(
            base_url=url,
            api_key=KEY,
            default_headers={"accept-encoding": "identity"},
            http_client=DefaultAioHttpClient(),
        ) as client:
            answer = await client.chat.completions.create(**fields)
        return str(answer.choices[0].message.content)

    options = {"top_p": 0.5, "stop": ["\n\n"], "extra_body": {"enable_thinking": False}}
    fields = {"model": "m", "temperature": 0.0, "messages": HELLO, **options}
    with serving(RIGHT) as server:
        asked = [
            ask(server.url, api_key_env="JUDGE_KEY", options=options, max_retries=4).text
            for _ in range(2)
        ]
        asked.append(asyncio.run(by_the_sdk(server.url, fields)))
    assert set(asked) == {RIGHT}
    first, second, of_the_sdk = server.requests
    assert first == second == of_the_sdk
    assert server.headers[0] == server.headers[1] == server.headers[2]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PACKED = {"content-encoding": "gzip"}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(wire=CHUNKED + b'5\r\n{"cho'), "ClientPayloadError"),
        (Reply(wire=b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), "received 1 of 99 bytes"),
        (Reply(wire=b"SSH-2.0-OpenSSH_9\r\n\r\n"), "Bad status line"),
        (Reply(wire=CHUNKED + b"zz\r\n{}"), "chunk size"),
        (Reply(wire=b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000), "8190 bytes"),
        (Reply(wire=b"HTTP/1.1 200 OK\r\nconte"), "ServerDisconnectedError"),
        (Reply(raw=b"not packed", headers=PACKED), "decompressing"),
        (Reply(raw=b"data: {}\n\n", headers={"content-type": "text/event-stream"}), "no chat"),
        (Reply(status=204, raw=b""), "no chat completion: ''"),
        (Reply(raw=b'{"error": {"message": "still loading"}}'), "still loading"),
        (Reply(message={"content": [{"type": "text"}]}), "the answer is no text"),
        (Reply(content=None, finish_reason="length"), "the answer is empty, which was cut off"),
        (Reply(status=500, raw=b"x" * 3_000_000), "HTTP 500: 'xxx"),
        (Reply(status=529, content="overloaded"), "HTTP 529 scripted: 'overloaded'"),
        (Reply(status=307, headers={"location": "/v1/chat/completions"}), "TooManyRedirects"),
        (Reply(status=307, headers={"location": "ftp://x/y"}), "ftp://x/y"),
        (Reply(status=307, headers={"location": "http://[::1"}), "location header"),
    ],
)
def test_what_is_no_answer_is_tried_again_and_named(reply, words):
    with serving(lambda _, number: reply if number < 1 else Reply()) as server:
        if reply.status != 307:
            assert (ask(server.url).text, len(server.requests)) == ("yes", 2)
    with serving(reply) as server:
        message = failing(server.url)
    assert "2 attempts" in message and words in message


def test_a_packed_response_counts_unpacked():
    with serving(Reply(raw=gzip.compress(Reply().body()), headers=PACKED)) as server:
        assert ask(server.url).text == "yes"
    with serving(Reply(raw=gzip.compress(b" " * 50_000_000), headers=PACKED)) as server:
        assert "1 attempt: the response has more than 1,000,000 bytes" in failing(server.url)
    assert "gzip" not in server.headers[0]["accept-encoding"]


def test_the_type_that_a_server_claims_does_not_matter():
    with serving(Reply(headers={"content-type": "text/html"})) as server:
        assert ask(server.url).text == "yes"


def test_a_redirect_is_followed_without_the_key():
    with serving("moved") as target:
        location = f"http://localhost:{target.server_port}/v1/chat/completions"
        with serving(Reply(status=307, headers={"location": location})) as server:
            assert ask(server.url, api_key_env="JUDGE_KEY").text == "moved"
    assert server.keys == [f"Bearer {KEY}"] and target.keys == [None]
    assert target.requests == server.requests


def test_a_redirect_that_loses_the_request_is_named():
    with serving(Reply(status=302, headers={"location": "/v2"})) as server:
        message = failing(server.url)
    assert f"after a redirect to {server.url.replace('/v1', '/v2')}" in message


def test_what_is_wrong_with_a_connection_is_named(monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving("yes") as server:
        assert "SSL" in failing(f"https://127.0.0.1:{server.server_port}/v1")
        assert "no-such-host.invalid" in failing("http://no-such-host.invalid/v1")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        message = failing(server.url)
        assert server.url in message and "Proxy" in message and "127.0.0.1:9 " in message
    assert server.requests == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PROXY", "nonsense://x"),
        ("HTTP_PROXY", "::::"),
        ("SSL_CERT_FILE", "/nowhere/cert.pem"),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(monkeypatch, place, variable, value):
    with serving("yes") as server:
        with monkeypatch.context() as changed:
            changed.setenv(variable, value)
            message = failing(server.url)
        assert ask(server.url).text == "yes"
    assert server.url in message and variable in message
    assert len(server.requests) == 1
    first, _ = (PLACE.run_folder / "model_calls.jsonl").read_text().splitlines()
    assert json.loads(first)["error"] == message


def test_a_header_that_no_request_can_carry_is_named(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "two\nlines")
    with serving("yes") as server:
        assert "1 attempt: the request cannot be sent" in failing(server.url)


def test_many_first_questions_make_one_client(monkeypatch):
    made = []
    original = endpoint._remote_client
    monkeypatch.setattr(endpoint, "_remote_client", lambda e: made.append(e) or original(e))
    with serving("yes") as server:
        config = ModelClientConfig(model="m", base_url=server.url, cache=False)
        client = ModelClient(config, purpose="judge")

        async def all_at_once() -> set[str]:
            answers = await asyncio.gather(*(client.ask(HELLO) for _ in range(20)))
            return {answer.text for answer in answers}

        assert asyncio.run(all_at_once()) == {"yes"}
    assert len(made) == 1


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        f"\ufeff{RIGHT}",
        RIGHT.replace("7", '"7"'),
        f"```json\n{RIGHT}\n```",
        f"```json {RIGHT}```",
        f"~~~\n{RIGHT}\n~~~",
        f"```JSON\n{RIGHT}",  # never closed
        "```json\n" + json.dumps({"reason": "see ```py\nx\n```", "score": 7}) + "\n```",
        '{"reason": "答案是对的，没有问题。", "score": 7}',
    ],
)
def test_a_score_is_read(text):
    value: Any = read_form(text, SCORE)
    assert value.score == 7


@pytest.mark.parametrize(
    "text",
    [
        *(RIGHT.replace("7", bad) for bad in ("NaN", "1e999", "-Infinity", '"NaN"', '"inf"')),
        *(RIGHT.replace("7", bad) for bad in ("true", "null", "[7]", '"7/10"', '""', "11", "-1")),
        '{"reason": "so", "score": 7, "score": 10}',
        '{"原因": "好", "分数": 7}',
        f"{RIGHT}\n{RIGHT}",
        f"```json\n{RIGHT}\n```\n```json\n{RIGHT}\n```",
        f"```json\n{RIGHT}\n{RIGHT}\n```",
        f"[{RIGHT}]",
        json.dumps(RIGHT),
        RIGHT[:-1],
        "分数：7",
        "{" * 100_000,
        "```json\n" + "[" * 100_000,
    ],
)
def test_no_score_is_made_up(text):
    why = read_form(text, SCORE)
    assert isinstance(why, str) and "in the answer" in why
