"""Unit tests see no torch, and a warning fails them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error"))


@pytest.fixture(scope="session", autouse=True)
def unit_tests_import_no_torch() -> Iterator[None]:
    """Of use where unit tests run by themselves, as in `make test`."""
    was_there = "torch" in sys.modules
    yield
    assert was_there or "torch" not in sys.modules, "a unit test imported torch"
