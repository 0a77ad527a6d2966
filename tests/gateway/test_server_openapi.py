"""The OpenAPI document, and generated requests for everything in it."""

from __future__ import annotations

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from ajet.gateway.apis.routes import routes
from ajet.gateway.server.openapi import openapi
from tests.gateway.server_fakes import WAIT_S, serving


@pytest.fixture(scope="module")
def episode():
    with serving() as served:
        yield served.episode()


@pytest.fixture(scope="module")
def document(episode):
    root = episode[1].base_url.removesuffix("/v1")
    with httpx2.Client(trust_env=False, timeout=WAIT_S) as client:
        return client.get(f"{root}/openapi.json").json()


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
]
UNHURRIED = {"deadline": None, "suppress_health_check": list(HealthCheck)}
SCHEMA = schemathesis.openapi.from_dict(openapi())


def test_every_route_is_described_with_its_parameters(document):
    assert document == openapi()
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert described == set(routes())
    request = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert {"messages", "tools", "stream", "n", "stop", "seed", "model"} <= set(request)


def test_there_is_nothing_to_look_at(episode):
    root = episode[1].base_url.removesuffix("/v1")
    with httpx2.Client(trust_env=False, timeout=WAIT_S) as client:
        for path in ("/", "/docs", "/redoc", "/docs/oauth2-redirect"):
            assert client.get(root + path).status_code == 404


@SCHEMA.parametrize()
@settings(max_examples=20, derandomize=True, **UNHURRIED)
def test_no_request_breaks_the_server_and_no_refused_one_is_recorded(case, episode):
    check(case, *episode)


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(max_examples=500, derandomize=False, **UNHURRIED)
def test_no_request_of_very_many_breaks_the_server(case, episode):
    check(case, *episode)


def check(case, tuner, endpoint):
    for name in list(case.headers):
        if name.lower() in ("authorization", "x-api-key"):
            del case.headers[name]
    before = len(tuner.get_context_tracker().calls)
    response = case.call(
        base_url=endpoint.base_url.removesuffix("/v1"),
        headers={"Authorization": f"Bearer {endpoint.api_key}"},
        timeout=WAIT_S,
    )
    recorded = len(tuner.get_context_tracker().calls) - before
    assert recorded == 0 or response.status_code == 200
    case.validate_response(response, checks=CHECKS)
