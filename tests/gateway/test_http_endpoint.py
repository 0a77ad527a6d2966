"""The HTTP endpoint: one server per run, started when it is needed, on loopback by default."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from urllib.parse import urlsplit

import httpx2
import pytest

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import ConfigError, MissingExtraError
from ajet.gateway.clients.http_endpoint import BaseUrlAndApiKey, HttpEndpoint
from tests.gateway.server_fakes import WAIT_S, HeldEngine, Served, ask, connect, serving


def test_the_server_starts_with_the_first_client_and_is_shared():
    served = Served(HeldEngine(held=False))
    assert served.http_endpoint._server is None
    try:
        _, first = served.episode("one")
        _, second = served.episode("two")
        assert first.base_url == second.base_url
        assert first.base_url.endswith("/v1") and first.model == "policy"
        assert ask(first).status_code == 200
    finally:
        served.http_endpoint.close()


def test_an_endpoint_that_nobody_used_is_closed_without_a_server():
    endpoint = HttpEndpoint()
    endpoint.revoke("a key of another endpoint")
    endpoint.close()


def test_it_listens_on_loopback_unless_told_otherwise():
    with serving() as served:
        _, endpoint = served.episode()
        assert served.listener.getsockname()[0] == "127.0.0.1"
        assert urlsplit(endpoint.base_url).hostname == "127.0.0.1"


def test_listening_for_other_machines_is_said_aloud(caplog):
    with serving(host="0.0.0.0", public_host="localhost") as served:
        _, endpoint = served.episode()
        assert urlsplit(endpoint.base_url).hostname == "localhost"
        assert ask(endpoint).status_code == 200
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert "interchange_server.host = 0.0.0.0" in said[0] and "encrypted" in said[0]
    assert endpoint.base_url in said[0] and endpoint.api_key not in said[0]


@pytest.mark.parametrize("excepted", ["", "example.org", "127.0.0.1,example.org"])
def test_no_proxy_is_asked_for_it(monkeypatch, excepted):
    for name in ("NO_PROXY", "ALL_PROXY", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", excepted)
    monkeypatch.setenv("NO_PROXY", excepted)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # nothing listens there
    with serving() as served:
        _, endpoint = served.episode()
        assert httpx2.get(f"{endpoint.base_url}/models", timeout=WAIT_S).status_code == 401
        hosts = os.environ["NO_PROXY"].split(",")
    assert sorted(hosts) == sorted({"127.0.0.1", *filter(None, excepted.split(","))})
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"]


def test_listening_for_this_machine_is_no_warning(caplog):
    with serving() as served:
        served.episode()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_address_that_is_taken_or_not_ours_is_an_error_of_the_configuration():
    with serving() as served:
        _, endpoint = served.episode()
        port = urlsplit(endpoint.base_url).port
        with pytest.raises(ConfigError, match=f"interchange_server: cannot listen on .*:{port}: "):
            Served(HeldEngine(), port=port).episode()
    with pytest.raises(ConfigError, match="cannot listen on 192.0.2.1"):
        Served(HeldEngine(), host="192.0.2.1").episode()


def test_without_the_server_extra_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("ajet.gateway.server")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r'pip install "agentjet\[server\]"'):
        Served(HeldEngine()).episode()


def test_the_other_clients_load_no_server():
    code = (
        "import sys, ajet.tuner, ajet.gateway.clients.openai_client\n"
        "import ajet.gateway.clients.http_endpoint\n"
        "print([name for name in ('fastapi', 'uvicorn', 'starlette') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


def test_the_key_is_not_shown():
    endpoint = BaseUrlAndApiKey(base_url="http://127.0.0.1:1/v1", api_key="secret", model="policy")
    assert "secret" not in f"{endpoint} {endpoint!r}"


def test_an_agent_that_is_not_trained_gets_its_debug_model():
    with serving() as served:
        tuner, _ = served.episode()
        tuner._trainable_targets = ["writer"]
        debug = BaseUrlAndApiKey(base_url="http://127.0.0.1:1/v1", api_key="k", model="m")
        assert tuner.as_oai_baseurl_apikey("critic", "critic", debug_model=debug) is debug
        own = tuner.as_oai_baseurl_apikey("writer", "writer", debug_model=debug)
        assert own is not debug
        ask(own)
        ask(tuner.as_oai_baseurl_apikey("critic", "critic"))
    assert [(call.agent_name, call.trained) for call in tuner.get_context_tracker().calls] == [
        ("writer", True),
        ("critic", False),
    ]


def test_the_limits_are_those_of_the_configuration():
    settings = InterchangeServerConfig(max_request_bytes=100)
    served = Served(HeldEngine(held=False))
    served.http_endpoint = HttpEndpoint(settings)
    try:
        _, endpoint = served.episode()
        assert ask(endpoint, "x" * 100).status_code == 413
    finally:
        served.http_endpoint.close()


def test_a_server_on_ipv6():
    try:
        context = serving(host="::1")
        with context as served:
            _, endpoint = served.episode()
            assert endpoint.base_url.startswith("http://[::1]:")
            connect(endpoint).close()
            assert ask(endpoint).status_code == 200
    except ConfigError as error:
        pytest.skip(f"no IPv6 here: {error}")
