"""`ajet serve`: several models behind one address.

1. The request's `model` chooses; so do the names in answers. Without one, the first answers.
2. Models are listed; an unknown one, a wrong key and an unknown path are errors of the API.
3. Nothing is kept of a request when it is answered.
4. A library that is not installed, and a port that is taken, are named before a model is loaded.
5. Ctrl-C ends a chat.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import openai
import pytest

from ajet.commands.serve import serve
from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import ConfigError, MissingExtraError
from ajet.gateway.clients.http_endpoint import start_server
from ajet.serving.models import ServedModel
from ajet.serving.server import MODEL_ROUTE, ModelRouter
from tests.end_to_end.command import ROOT
from tests.gateway.gateway_fakes import HELLO, agent_of

NAMES = ("mine@12", "owner/base")


def text_of(name: str) -> str:
    """What a model says; the second half looks like the field that names it."""
    return f'I am {name}: "model": "policy"'


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    models = [
        ServedModel(name=name, gateway=agent_of([text_of(name)]).session._gateway) for name in NAMES
    ]
    server = start_server(
        InterchangeServerConfig(), answer=ModelRouter(models).answer, more_routes=[MODEL_ROUTE]
    )
    key = server.keys.issue(models[0].session(), "sk-mine")
    with openai.OpenAI(base_url=server.base_url, api_key=key, max_retries=0) as client:
        yield client
    server.stop()


def test_the_request_chooses_the_model(client: openai.OpenAI) -> None:
    for name in NAMES:
        answer = client.chat.completions.create(model=name, messages=HELLO)  # type: ignore[arg-type]
        assert (answer.model, answer.choices[0].message.content) == (name, text_of(name))


def test_events_carry_the_name_and_the_whole_text(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=NAMES[1],
        messages=HELLO,  # type: ignore[arg-type]
        stream=True,
    )
    chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {NAMES[1]}
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == text_of(NAMES[1])


def test_the_responses_api_is_served(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=NAMES[1], input="hello")
    assert (answer.model, answer.output_text) == (NAMES[1], text_of(NAMES[1]))


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert tuple(model.id for model in client.models.list()) == NAMES
    assert client.models.retrieve(NAMES[1]).id == NAMES[1]


def test_an_unknown_model_is_an_error_that_names_those_there_are(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there are: mine@12, owner/base"):
        client.chat.completions.create(model="gpt-5", messages=HELLO)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=NAMES[0], input="x")


def test_a_wrong_key_is_refused(client: openai.OpenAI) -> None:
    other = client.with_options(api_key="sk-other")
    with pytest.raises(openai.AuthenticationError):
        other.models.list()


TALK = """
from ajet.commands.serve import _talk
from ajet.serving.models import ServedModel
from tests.gateway.gateway_fakes import agent_of
try:
    _talk([ServedModel(name="mine", gateway=agent_of(["hello you"]).session._gateway)], None)
except KeyboardInterrupt:
    print("ended")
"""


def test_ctrl_c_ends_a_chat_that_waits_for_input() -> None:
    process = subprocess.Popen(
        [sys.executable, "-uc", TALK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(2) == "> "
        process.stdin.write("hi\n")
        process.stdin.flush()
        assert process.stdout.read(len("hello you\n> ")) == "hello you\n> "
        # Standard input is still open. One signal may come between the prompt and the reading.
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
        assert process.stdout.read().startswith("ended\n")


def test_a_taken_port_is_named_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: cannot listen there: Address alr"):
            serve(Path("no run at all"), port=port)


def test_a_missing_library_is_named_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "ajet.gateway.server.http_server", raising=False)
    with pytest.raises(MissingExtraError, match=r"agentjet\[server\]"):
        serve(Path("no run at all"))
