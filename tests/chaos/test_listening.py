"""A local run whose agents use HTTP listens on loopback only, and refuses requests without a key.

The tests of vLLM, verl and Trinity-RFT check the same for their runs.
"""

from __future__ import annotations

import contextlib

import pytest

from tests.chaos.runs import MARK, Place
from tests.end_to_end.listening import Listener, assert_private, listening


def test_a_local_run_listens_on_loopback_only_and_wants_a_key() -> None:
    place = Place("local")
    try:
        with listening(MARK, place.mark) as found:
            ended = place.start("trainer_common.total_training_steps=1").wait(500)
        assert ended is not None and ended.code == 0, ended
        assert any(401 in each.statuses for each in found.values()), "the gateway was seen"
        assert_private(found)
    finally:
        place.remove()


@pytest.mark.parametrize(
    ("ip", "statuses", "is_private"),
    [
        ("127.0.0.1", (401, 404), True),
        ("::ffff:127.0.0.1", (None, None), True),
        ("::1", (403, 403), True),
        ("0.0.0.0", (None, None), False),
        ("::", (401, 401), False),
        ("192.168.0.7", (401, 401), False),
        ("127.0.0.1", (200, 404), False),
    ],
)
def test_the_check_sees_what_it_looks_for(
    ip: str, statuses: tuple[int | None, ...], is_private: bool
) -> None:
    listener = Listener(process="p", ip=ip, port=1, statuses=statuses)
    with contextlib.nullcontext() if is_private else pytest.raises(AssertionError):
        assert_private({(ip, 1): listener})
