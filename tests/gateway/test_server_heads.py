"""What a request's first lines may say, byte by byte. Whatever is refused leaves no trace, and
the connection that it came on is closed: nothing that follows on it is taken for a request.
"""

from __future__ import annotations

import time

import pytest

from ajet.gateway.server.hosts import HostCheck, in_url, is_loopback, public_host
from tests.gateway.server_fakes import (
    connect,
    head_of,
    receive_all,
    receive_answer,
    request_of,
    serving,
    status_of,
)

BODY = b'{"messages": [{"role": "user", "content": "hi"}]}'
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.fixture(scope="module")
def served():
    with serving(max_header_bytes=4096, read_timeout_s=20.0) as served:
        yield served


@pytest.fixture
def episode(served):
    tuner, endpoint = served.episode()
    yield tuner, endpoint
    tuner.close()


def test_a_plain_request_is_answered(episode):
    """The control for all that follows: its head is like theirs, without the fault."""
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(head_of(endpoint, LENGTH, "Connection: close") + BODY)
        assert status_of(receive_all(connection)) == 200
    assert len(tuner.get_context_tracker().calls) == 1


def test_a_body_in_chunks_is_answered(episode):
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        head = head_of(endpoint, "Transfer-Encoding: chunked", "Connection: close")
        connection.sendall(head + CHUNKED)
        assert status_of(receive_all(connection)) == 200
    assert len(tuner.get_context_tracker().calls) == 1


FRAMING = {
    "two lengths that differ": ([LENGTH, "Content-Length: 3"], BODY),
    "two lengths that agree": ([LENGTH, LENGTH], BODY),
    "a list of lengths": ([f"{LENGTH}, {len(BODY)}"], BODY),
    "a signed length": ([f"Content-Length: +{len(BODY)}"], BODY),
    "a negative length": (["Content-Length: -1"], BODY),
    "a hexadecimal length": ([f"Content-Length: {len(BODY):#x}"], BODY),
    "an endless length": (["Content-Length: " + "9" * 40], BODY),
    "no length in it": (["Content-Length: "], BODY),
    "length and chunks": ([LENGTH, "Transfer-Encoding: chunked"], CHUNKED),
    "chunks and length": (["Transfer-Encoding: chunked", LENGTH], CHUNKED),
    "chunks twice": (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], CHUNKED),
    "chunks inside chunks": (["Transfer-Encoding: chunked, chunked"], CHUNKED),
    "another coding": (["Transfer-Encoding: gzip, chunked"], CHUNKED),
    "no known coding": (["Transfer-Encoding: xchunked"], CHUNKED),
    "identity": (["Transfer-Encoding: identity", LENGTH], BODY),
    "a blank before the colon": (["Transfer-Encoding : chunked"], CHUNKED),
    "a tab in the coding": (["Transfer-Encoding: \x0bchunked"], CHUNKED),
    "a folded header": (["Transfer-Encoding:", " chunked"], CHUNKED),
    "a length hidden by a line feed": ([f"X: y\n{LENGTH}"], BODY),
    "a chunk of bad size": (["Transfer-Encoding: chunked"], b"zz\r\n\r\n"),
    "a chunk of huge size": (["Transfer-Encoding: chunked"], b"f" * 17 + b"\r\nx"),
    "a chunk without its end": (["Transfer-Encoding: chunked"], b"1\r\n{}0\r\n\r\n"),
    "headers after the chunks": (
        ["Transfer-Encoding: chunked"],
        CHUNKED[:-2] + b"x-api-key: another\r\n\r\n",
    ),
}


@pytest.mark.parametrize("name", FRAMING)
def test_a_body_of_unclear_length_is_refused(episode, name):
    headers, body = FRAMING[name]
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        # A second request follows: if the first one's end is misjudged, it is answered.
        connection.sendall(head_of(endpoint, *headers) + body + request_of(endpoint))
        answer = receive_all(connection)
    assert status_of(answer) in (0, 400, 413, 501), answer
    assert answer.count(b"HTTP/1.1") <= 1
    assert tuner.get_context_tracker().calls == []


LINES = {
    "absolute target": "POST http://127.0.0.1/v1/chat/completions HTTP/1.1",
    "target elsewhere": "POST http://example.org/v1/chat/completions HTTP/1.1",
    "authority target": "CONNECT example.org:443 HTTP/1.1",
    "star target": "OPTIONS * HTTP/1.1",
    "no target": "POST  HTTP/1.1",
    "a blank in the target": "POST /v1/chat /completions HTTP/1.1",
    "no version": "POST /v1/chat/completions",
    "HTTP/2": "POST /v1/chat/completions HTTP/2.0",
    "HTTP/0.9": "POST /v1/chat/completions HTTP/0.9",
    "no method": "/v1/chat/completions HTTP/1.1",
    "an unknown method": "STEAL /v1/chat/completions HTTP/1.1",
    "a lower-case method": "post /v1/chat/completions HTTP/1.1",
    "a byte that is no ASCII": "POST /v1/chat/completions\xff HTTP/1.1",
    "a zero byte": "POST /v1/chat/completions\x00 HTTP/1.1",
}


@pytest.mark.parametrize("name", LINES)
def test_a_first_line_that_is_not_for_us_is_refused(episode, name):
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(head_of(endpoint, LENGTH, line=LINES[name]) + BODY)
        assert status_of(receive_all(connection)) == 400
    assert tuner.get_context_tracker().calls == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /v1/chat/completions HTTP/1.1", 405),
        ("DELETE /v1/models HTTP/1.1", 405),
        ("POST /v1/chat/completions/ HTTP/1.1", 404),
        ("POST //v1/chat/completions HTTP/1.1", 404),
        ("POST /v1/../v1/chat/completions HTTP/1.1", 404),
        ("POST /docs HTTP/1.1", 404),
        ("POST /v1/files HTTP/1.1", 404),
    ],
)
def test_what_is_not_there_is_not_found(episode, line, status):
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(head_of(endpoint, LENGTH, "Connection: close", line=line) + BODY)
        answer = receive_all(connection)
    assert status_of(answer) == status
    assert b'"error": {"message": ' in answer
    assert tuner.get_context_tracker().calls == []


HOSTS = {
    "none": (None, [], 400),
    "two": ("127.0.0.1", ["Host: 127.0.0.1"], 400),
    "empty": ("", [], 421),
    "another": ("example.org", [], 421),
    "one that looks like ours": ("127.0.0.1.example.org", [], 421),
    "with a user": ("user@127.0.0.1", [], 421),
    "with a path": ("127.0.0.1/x", [], 421),
    "a bad port": ("127.0.0.1:port", [], 421),
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_bad_host_is_refused(episode, name):
    host, more, status = HOSTS[name]
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(head_of(endpoint, LENGTH, *more, host=host) + BODY)
        assert status_of(receive_all(connection)) == status
    assert tuner.get_context_tracker().calls == []


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]:8000"])
def test_a_loopback_name_is_taken_with_any_port(episode, host):
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(head_of(endpoint, LENGTH, "Connection: close", host=host) + BODY)
        assert status_of(receive_all(connection)) == 200


def test_a_request_before_the_answer_to_the_last_is_not_taken(episode):
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(request_of(endpoint) * 2)
        assert receive_all(connection) == b"", "it might pass for the answer to either"
    assert len(tuner.get_context_tracker().calls) <= 1


OFFER = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"]


@pytest.mark.parametrize("first_part", [0, 7, len(BODY)])
def test_an_offer_of_another_protocol_is_ignored(episode, first_part):
    """Java's client makes one with its first request."""
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(head_of(endpoint, *OFFER, LENGTH) + BODY[:first_part])
        time.sleep(0.02)
        connection.sendall(BODY[first_part:])
        assert status_of(receive_answer(connection)) == 200
        connection.sendall(head_of(endpoint, "Connection: close", LENGTH) + BODY)
        assert status_of(receive_all(connection)) == 200
    assert len(tuner.get_context_tracker().calls) == 2


def test_an_offer_of_another_protocol_hides_no_request(episode):
    tuner, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(head_of(endpoint, *OFFER, "Transfer-Encoding: chunked") + CHUNKED)
        assert status_of(receive_all(connection)) == 501
    with connect(endpoint) as connection:
        inner = request_of(endpoint)
        connection.sendall(head_of(endpoint, *OFFER, length=len(inner)) + inner)
        assert status_of(receive_answer(connection)) == 400
    assert tuner.get_context_tracker().calls == []


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_other_protocols_are_refused(episode, junk):
    _, endpoint = episode
    with connect(endpoint) as connection:
        connection.sendall(junk)
        assert status_of(receive_all(connection)) == 400


def test_hosts_in_short():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "a.b")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert (public_host("0.0.0.0"), public_host("::"), public_host("a.b")) == (
        "127.0.0.1",
        "::1",
        "a.b",
    )
    assert (in_url("::1"), in_url("a.b")) == ("[::1]", "a.b")


def test_a_server_on_one_address_answers_to_its_names_only():
    check = HostCheck("10.0.0.5", "node-5")
    assert check.allows(b"10.0.0.5:8000") and check.allows(b"Node-5") and check.allows(b"localhost")
    assert not check.allows(b"node-6")


def test_a_server_on_all_addresses_answers_to_any_well_formed_name():
    check = HostCheck("0.0.0.0", None)
    assert check.allows(b"node-6:80") and not check.allows(b"node 6")
