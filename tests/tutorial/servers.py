"""Servers of the examples, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ajet.service.probes import answers, free_ports
from tests.processes.service_processes import eventually

ROOT = Path(__file__).parents[2]


@contextmanager
def served(module: str) -> Iterator[str]:
    """Start `python -m MODULE --port ...` and yield its URL when it answers."""
    url = f"http://127.0.0.1:{(port := free_ports(1)[0])}"
    command = [sys.executable, "-m", module, "--port", str(port)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        try:
            assert eventually(lambda: answers(f"{url}/health"), 180)
            yield url
        finally:
            process.terminate()
