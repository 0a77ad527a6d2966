"""LiteLLM's proxy in front of a backend that answers at once, for `gateway.py`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".venv-litellm/bin/litellm"
CONFIG = Path(__file__).with_name("litellm.yaml")
API_KEY = "sk-benchmark"
START_S = 120


class LiteLLM:
    """The proxy on one core and its backend on another; both end when the `with` block ends."""

    def __init__(self, core: int, backend_core: int) -> None:
        if not PROGRAM.exists():
            raise SystemExit(f"error: no {PROGRAM.relative_to(ROOT)}: run  make .venv-litellm")
        backend_port, port = _free_port(), _free_port()
        self.backend_url = f"http://127.0.0.1:{backend_port}/v1"
        self.base_url = f"http://127.0.0.1:{port}/v1"
        backend = [sys.executable, "-m", "benchmarks.peers.litellm_backend", str(backend_port)]
        proxy = [str(PROGRAM), "--config", str(CONFIG), "--host", "127.0.0.1", "--port", str(port)]
        self._backend = _start(backend, backend_core, {})
        self._proxy = _start(
            proxy,
            core,
            {
                "BACKEND_URL": self.backend_url,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_TELEMETRY": "False",
                "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
            },
        )
        _wait_for(f"http://127.0.0.1:{port}/health/liveliness", self._proxy)

    def cpu_s(self) -> float:
        """User and system time of the proxy's process."""
        stat = Path(f"/proc/{self._proxy.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> LiteLLM:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._proxy, self._backend):
            process.terminate()
            process.wait()


def _start(command: list[str], core: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"error: LiteLLM's proxy did not start: {PROGRAM}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
