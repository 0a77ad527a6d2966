"""What a user's `EnvironmentService` does over HTTP.

1. The documented routes, in the documented forms.
2. A call with the key of the newest one is answered again, and not made again.
3. Too many instances, too long bodies, wrong keys, hosts and bodies are refused before user code.
4. Instances end with their lease, and when the service is stopped.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from ajet.environment.client import EnvironmentClient
from ajet.environment.protocol import ServiceRequest
from ajet.environment.service_environment import ServiceSource
from tests.environment.running_service import Running, running
from tests.processes.service_processes import eventually


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running("--max-instances", "3", "--max-request-bytes", "1000") as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_stays_open(service: Running) -> Iterator[None]:
    yield
    for name in ("a", "b", "c", "d"):
        call(service, "/release", instance_id=name)
    assert eventually(lambda: service.num_open() == 0)


def call(
    service: Running, route: str, *, headers: dict[str, str] | None = None, **fields: Any
) -> tuple[int, Any]:
    """Status and answer."""
    return post(service, route, json.dumps(fields).encode(), headers)


def post(
    service: Running, route: str, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    headers = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(service.url + route, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
            return error.code, json.loads(text)["detail"] if text[:1] == b"{" else text.decode()


def created(service: Running, name: str = "a", **headers: str) -> Any:
    return call(service, "/create", instance_id=name, task_id="3", headers=headers)


def test_the_routes_answer_in_the_documented_forms(service: Running) -> None:
    status, answer = call(service, "/get_env_profile", params={"split": "dev"})
    assert (status, answer["data"]) == (200, ["1", "2", "3", "4"])
    _, answer = created(service)
    ours = {"lease_s": 120.0, "accepts_idempotency_key": True}
    assert answer["data"] == {
        "state": [
            {"role": "system", "content": "You count."},
            {"role": "user", "content": "Count to 3."},
        ],
        "reward": 0.0,
        "is_terminated": False,
        "info": {"instance_id": "a", "task_id": "3", **ours},
    }
    action = {"role": "assistant", "content": "one"}
    _, answer = call(service, "/step", instance_id="a", messages=action)
    assert answer["data"] == {
        "state": {"role": "user", "content": "one: 1"},
        "reward": 0.5,
        "is_terminated": False,
        "info": {"count": 1, "instance_id": "a", "task_id": "3"},
    }
    _, answer = call(service, "/evaluate", instance_id="a", params={"sparse": False})
    assert answer["data"] == pytest.approx(1 / 3)
    _, answer = call(service, "/get_info", instance_id="a")
    assert answer["data"]["task_id"] == "3"
    assert call(service, "/release", instance_id="a")[1] == {"success": True, "data": True}
    assert call(service, "/release", instance_id="a")[1] == {"success": False, "data": False}


def test_a_repeated_call_is_answered_and_not_made_again(service: Running) -> None:
    first = created(service, "a", **{"Idempotency-Key": "k1"})
    assert created(service, "a", **{"Idempotency-Key": "k1"}) == first
    action = {"role": "assistant", "content": "x"}
    key = {"Idempotency-Key": "k2"}
    steps = [call(service, "/step", instance_id="a", messages=action, headers=key) for _ in "12"]
    assert steps[0] == steps[1]
    assert steps[0][1]["data"]["info"]["count"] == 1
    _, answer = call(service, "/step", instance_id="a", messages=action)
    assert answer["data"]["info"]["count"] == 2


def test_an_id_that_is_taken_is_refused(service: Running) -> None:
    created(service)
    assert created(service) == (409, "instance a exists already")


def test_there_are_no_more_instances_than_allowed(service: Running) -> None:
    for name in ("a", "b", "c"):
        assert created(service, name)[0] == 200
    assert created(service, "d") == (503, "max_instances = 3 are open")
    call(service, "/release", instance_id="b")
    assert created(service, "d")[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b" " * 2000, {}, 413, "more than 1000 bytes"),
        (b"{", {}, 400, "not a call of this protocol"),
        (b'{"instance_id": 7}', {}, 400, "not a call of this protocol"),
        (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
        (b"{}", {"host": "evil.example"}, 400, "Invalid host"),
        (b"{}", {}, 400, "needs instance_id and task_id"),
        (b'{"env_type": "other"}', {}, 404, 'has env_type "counting", not "other"'),
    ],
)
def test_bad_requests_are_refused(
    service: Running, body: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    got, detail = post(service, "/create", body, headers)
    assert got == status
    assert words in detail


def test_a_step_without_an_action_or_an_instance_is_refused(service: Running) -> None:
    assert call(service, "/step", instance_id="a")[0] == 400
    assert call(service, "/step", instance_id="a", messages=[])[0] == 400
    status, detail = call(service, "/step", instance_id="a", messages={"content": "x"})
    assert (status, detail.partition(":")[0]) == (404, "there is no instance a")


def test_a_key_is_asked_for_where_one_is_set() -> None:
    with running(env={"AJET_ENVIRONMENT_KEY": "sesame"}) as locked:
        assert call(locked, "/get_env_profile")[0] == 401
        headers = {"authorization": "Bearer sesame"}
        assert call(locked, "/get_env_profile", headers=headers)[0] == 200


def test_an_instance_ends_with_its_lease_and_calls_renew_it() -> None:
    with running("--lease-s", "3") as short:
        created(short)
        for _ in range(5):
            assert not eventually(lambda: short.num_open() == 0, 0.8)
            assert call(short, "/get_info", instance_id="a")[0] == 200
        assert eventually(lambda: short.num_open() == 0)
        assert call(short, "/get_info", instance_id="a")[0] == 404


def test_stopping_the_service_releases_every_instance(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(env={"RELEASE_LOG": str(log)}) as service:
        for name in ("a", "b"):
            created(service, name)
    assert log.read_text() == "released\n" * 2


def test_the_clients_thread_never_waits_for_who_closes_it() -> None:
    """`settle` closes the client, and waits for its thread, while it holds the source's lock."""
    source = ServiceSource(EnvironmentClient("http://127.0.0.1:9"))
    release: Future[bool] = Future()
    release.set_result(True)
    source._releasing[release] = ServiceRequest(instance_id="a")
    of_client = threading.Thread(target=source._forget_if_done, args=(release,), daemon=True)
    with source._lock:
        of_client.start()
        of_client.join(60)
        assert not of_client.is_alive()
    assert not source._releasing
