"""Projects of `ajet init`, looked at in this process."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODULES = ("agent", "calculator", "environment", "judge", "workflow", "test_workflow")
"""What the files of a project are imported as; each project has its own."""


@contextmanager
def imported_from(folder: Path) -> Iterator[None]:
    """Let the modules of one project be imported, and forget them afterwards."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        while str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in MODULES:
            sys.modules.pop(name, None)


def run_its_tests(folder: Path) -> list[str]:
    """Run every test function of the project's own test; their names."""
    spec = importlib.util.spec_from_file_location("test_workflow", folder / "test_workflow.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tests = {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("test_")
    }
    for function in tests.values():
        function()
    return list(tests)
