"""What the methods of a user's `EnvironmentService` return, and in which forms it is served.

1. A value of another type is an error that names it; nothing is guessed.
2. Numbers of numpy are numbers.
3. A service may have an IPv6 address, and a path before its routes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from ajet.config.sections.environment import EnvironmentConfig
from ajet.environment import EnvironmentService
from ajet.environment.protocol import LOOPBACK
from ajet.environment.serving import EnvironmentApp


class Returning(EnvironmentService):
    """Returns what the task's id names."""

    def __init__(self, **returned: Any) -> None:
        self.returned = returned

    def task_ids(self, split: str) -> Any:
        return self.returned["task_ids"]

    def create(self, task_id: str, params: dict[str, Any]) -> Any:
        return self.returned.get("create", (1, "go"))

    def step(self, instance: Any, action: Any) -> Any:
        return self.returned["step"]


def answer_of(route: str, service: Returning) -> tuple[int, Any]:
    with TestClient(EnvironmentApp(service).app()) as client:
        fields = {"instance_id": "a", "task_id": "3", "messages": {"content": "x"}}
        if route == "/step":
            client.post("/create", json=fields)
        answer = client.post(route, json=fields)
        num_open = client.get("/health").json()["open_instances"]
        assert num_open == (1 if route == "/step" or answer.status_code == 200 else 0)
        return answer.status_code, answer.json()["detail" if answer.is_error else "data"]


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (np.arange(2), ["0", "1"]),
        (iter(["ü", 7]), ["ü", "7"]),
        ("abc", "returned 'abc', expected a list of task ids"),
        (None, "returned None, expected a list of task ids"),
        ({"a": 1}, "expected a list of task ids"),
        ([1.5], "has the id 1.5, expected a text or an integer"),
        ([""], "has the id '', expected a text or an integer"),
    ],
)
def test_task_ids_are_texts_or_integers(returned: Any, expected: Any) -> None:
    with TestClient(EnvironmentApp(Returning(task_ids=returned)).app()) as client:
        answer = client.post("/get_env_profile", json={})
        if isinstance(expected, list):
            assert answer.json()["data"] == expected
        else:
            assert expected in answer.json()["detail"]


@pytest.mark.parametrize(
    ("route", "returned", "expected"),
    [
        ("/create", 5, "create() returned 5, expected an object and the first observation"),
        ("/create", (1, 2, 3), "create() returned 3 values"),
        ("/create", (1, []), "got [], expected a message"),
        ("/create", (1, None), "got None, expected a message"),
        ("/step", None, "step() returned None, expected observation, reward, is_terminated"),
        ("/step", ("o", 1.0), "step() returned 2 values"),
        ("/step", ("o", 1.0, True, False, {}), "step() returned 5 values"),
        ("/step", ("o", 1.0, "False"), "is_terminated: got 'False', expected True or False"),
        ("/step", ("o", 1.0, None), "is_terminated: got None, expected True or False"),
        ("/step", ("o", 1.0, True, [1]), "info: got [1], expected a dict"),
        ("/step", ("o", 1.0, True, {"a": {1}}), "got {1}, which has no JSON form"),
    ],
)
def test_a_value_of_another_type_is_named(route: str, returned: Any, expected: str) -> None:
    service = Returning(**{route[1:]: returned})
    status, detail = answer_of(route, service)
    assert status == 500
    assert expected in detail


def test_values_of_numpy_are_taken() -> None:
    info = {"count": np.int64(3), "seen": np.arange(2)}
    returned = ("o", np.float32(0.5), np.bool_(True), info)
    status, data = answer_of("/step", Returning(step=returned))
    assert status == 200
    assert (data["reward"], data["is_terminated"]) == (0.5, True)
    assert (data["info"]["count"], data["info"]["seen"]) == (3, [0, 1])


def test_a_method_may_return_a_coroutine() -> None:
    async def made() -> Any:
        return 1, "go"

    status, data = answer_of("/create", Returning(create=made()))
    assert (status, data["state"]["content"]) == (200, "go")


@pytest.mark.parametrize("host", ["[::1]:8080", "[::1]", "127.0.0.1:8080", "localhost"])
def test_a_service_on_a_loopback_address_is_reached_by_its_names(host: str) -> None:
    app = EnvironmentApp(Returning()).app(LOOPBACK)
    with TestClient(app) as client:
        assert client.get("/health", headers={"host": host}).status_code == 200
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "url", ["http://[::1]:8080", "https://env.example/worlds/", "http://127.0.0.1", "http://a:1/b"]
)
def test_addresses_of_services(url: str) -> None:
    assert EnvironmentConfig(type="service", url=url).url == url


@pytest.mark.parametrize(
    "url", ["localhost:8080", "http://[::1", "http://a b", "ftp://a", "http://"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="expected an address such as"):
        EnvironmentConfig(type="service", url=url)
