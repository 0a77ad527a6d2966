"""The gateway's tests go through real clients and sockets; a warning fails them."""

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.openai_server import Server, serving

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error"))


@pytest.fixture(autouse=True, scope="module")
def leaves_nothing_to_collect() -> Iterator[None]:
    """Clients that a user's code never closes warn when they are collected: not in other tests."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server
