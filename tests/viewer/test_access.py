"""Who may see a run.

1. Without the link's token nothing is shown; with it, a cookie takes its place.
2. A foreign `Host` or `Origin` is refused, token or not.
3. Nothing can be changed, and nothing from elsewhere may run in the page.
4. Names in an address never become paths.
"""

from __future__ import annotations

import pytest

from tests.viewer.conftest import COOKIE, TOKEN

PATHS = ["/", "/api/runs", "/api/run?run=demo", "/static/app.js", "/static/index.html"]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(stranger, path):
    response = stranger.get(path)
    assert response.status_code == 401
    assert "demo" not in response.text


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_a_wrong_token_opens_nothing(stranger, token):
    assert stranger.get("/", params={"token": token}, follow_redirects=False).status_code == 401
    stranger.cookies.set(COOKIE, token)
    assert stranger.get("/api/runs").status_code == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address(stranger):
    response = stranger.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert response.status_code == 303
    assert response.headers["location"] == "/"
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert stranger.get("/api/runs").status_code == 200


def test_a_token_in_an_api_address_opens_nothing(stranger):
    assert stranger.get("/api/runs", params={"token": TOKEN}).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a b", "[::1", ""])
def test_a_foreign_host_is_refused(client, host):
    response = client.get("/api/runs", headers={"host": host})
    assert response.status_code == 421
    assert "demo" not in response.text


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:9"])
def test_names_of_this_machine_are_answered(client, host):
    headers = {"host": host, "cookie": f"{COOKIE}={TOKEN}"}
    assert client.get("/api/runs", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:81"]
)
def test_a_foreign_origin_is_refused(client, origin):
    assert client.get("/api/runs", headers={"origin": origin}).status_code == 403


def test_its_own_origin_is_answered(client):
    assert client.get("/api/runs", headers={"origin": "http://127.0.0.1"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(client, method):
    assert client.request(method, "/api/runs").status_code == 405


@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/nothing", "/static/app.js", "/none"])
def test_every_answer_forbids_what_is_foreign(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["..", ".", "/etc", "demo/../demo", "..%2f..", "demo\x00", ""])
def test_a_run_s_name_is_never_a_path(client, name):
    for api in ("run", "metrics", "episodes"):
        assert client.get(f"/api/{api}", params={"run": name}).status_code == 404


@pytest.mark.parametrize("path", ["/static/../api.py", "/static/..%2f..%2fapi.py", "/static//etc"])
def test_only_the_page_s_own_files_are_served(client, path):
    assert client.get(path).status_code == 404


def test_secrets_of_the_settings_are_not_sent(client):
    text = client.get("/api/run", params={"run": "demo"}).text
    assert "x.yaml" in text
    assert "hush" not in text
