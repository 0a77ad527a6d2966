"""Runs a vLLM server as a child process."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

import httpx2

from ajet.engine.vllm.client import EXTENSION
from ajet.engine.vllm.key_guard import KEY_VARIABLE
from ajet.errors import ServiceError
from ajet.service.private_folder import private_folder, short_folder
from ajet.service.service import Service, ServiceRecord

HOST = "127.0.0.1"
KEEPALIVE_S = 600
"""Seconds after which a server that we start closes an idle connection."""
_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_CPU_KV_CACHE_GB = 1.0


class VllmServer:
    """A vLLM server on loopback with a key of its own; it can be started again after it ended.

    Args:
        name: used in messages, logs and records.
        command: the first part of `vllm_command`'s result.
        env: variables on top of this process's environment.
        port: the port to listen on; None: any free one.
        log: file for the server's output.
        start_timeout_s: time limit for the server to answer after its start.
        on_started: called with the process record of each start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        port: int | None,
        log: Path,
        start_timeout_s: float,
        on_started: Callable[[ServiceRecord], None] | None = None,
    ) -> None:
        self.name = name
        self.api_key = secrets.token_urlsafe(32)
        self._port = port or _free_port()
        self._command = [*command, "--host", HOST, "--port", str(self._port)]
        self._env = {**env, KEY_VARIABLE: self.api_key}
        self._log = log
        self._start_timeout_s = start_timeout_s
        self._on_started = on_started
        self._service: Service | None = None
        self._temporary = ExitStack()

    @property
    def base_url(self) -> str:
        """URL of the server, without `/v1`."""
        return f"http://{HOST}:{self._port}"

    def start(self) -> None:
        """Start the process; `wait_until_ready` then waits for the server.

        Raises:
            ServiceError: the port is in use, or the program cannot be started.
        """
        self.stop()
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self._port))
            except OSError as error:
                raise ServiceError(
                    f"{self.name}: port {self._port} cannot be used: {error}. Name another one in "
                    "ajet.rollout.vllm.options.port, or remove that setting to use any free port"
                ) from None
        # vLLM leaves sockets there.
        temporary = str(self._temporary.enter_context(private_folder("vllm", short_folder())))
        self._service = Service(
            self.name,
            self._command,
            log=self._log,
            env={**self._env, "TMPDIR": temporary, "VLLM_RPC_BASE_PATH": temporary},
            on_started=self._on_started,
        )
        self._service.start()

    def wait_until_ready(self) -> None:
        """Block until the server answers.

        Raises:
            ServiceError: it ended or exceeded the time limit; with the end of its log.
        """
        assert self._service is not None, f"{self.name} was not started"
        self._service.wait_until(self._is_healthy, self._start_timeout_s)

    def how_it_ended(self) -> str | None:
        """Exit status and end of the log; None while the server runs."""
        service = self._service
        has_ended = service is not None and service.returncode is not None
        return service.how_it_ended() if service and has_ended else None

    def stop(self) -> None:
        """Stop the server and all processes that it started."""
        if self._service is not None:
            self._service.stop()
        self._temporary.close()

    def _is_healthy(self) -> bool:
        try:
            return httpx2.get(f"{self.base_url}/health", timeout=5.0, trust_env=False).is_success
        except httpx2.TransportError:
            return False


def vllm_command(
    model: Path,
    *,
    python: str | None,
    device: Literal["cpu", "cuda"],
    dtype: str,
    max_model_len: int,
    max_num_seqs: int,
    num_threads: int,
    kv_cache_gb: float | None,
    options: Mapping[str, Any],
) -> tuple[list[str], dict[str, str]]:
    """The command line and environment variables of a server.

    Args:
        model: folder of the model.
        python: Python of an environment with vLLM; None: the current one.
        device: the device that this vLLM is built for.
        dtype: `float32`, `bfloat16` or `float16`.
        max_model_len: longest prompt plus completion, in tokens.
        max_num_seqs: most requests that run at the same time.
        num_threads: torch threads on a CPU.
        kv_cache_gb: memory for key-values; None: 1 on a CPU, vLLM's own choice on a GPU.
        options: further options of `vllm serve` by name; they override ours.
    """
    settings: dict[str, Any] = {
        "model": str(model),
        "served_model_name": "policy",
        "dtype": dtype,
        "max_model_len": max_model_len,
        "max_num_seqs": max_num_seqs,
        "generation_config": "vllm",  # ignore the model's own sampling defaults
        "worker_extension_cls": EXTENSION,
        "middleware": [  # the last one runs first, so that the key is checked before anything
            "ajet.engine.vllm.token_fast_path.TokenFastPath",
            "ajet.engine.vllm.key_guard.KeyGuard",
        ],
        "disable_uvicorn_access_log": True,
    }
    env = {
        "VLLM_SERVER_DEV_MODE": "1",  # opens the paths that update weights
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEPALIVE_S),
        "PYTHONPATH": os.pathsep.join(
            [str(_PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    if device == "cpu":
        kv_cache_gb = kv_cache_gb or _CPU_KV_CACHE_GB
        is_one_rank = not {"tensor_parallel_size", "pipeline_parallel_size"} & set(options)
        settings |= {
            "enforce_eager": True,
            "distributed_executor_backend": "uni" if is_one_rank else None,
            # Chunked prefill of a request with a seed crashes vLLM 0.28 on a CPU: it asks the
            # torch generator for an offset, which CPU generators do not have.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(4096, max_model_len),
        }
        env |= {
            "OMP_NUM_THREADS": str(num_threads),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            # One process schedules and computes. With two, each waits for the other in a busy
            # loop, which costs the CPU time that the other one needs.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "TORCHDYNAMO_DISABLE": "1",  # nothing is compiled, but loading dynamo takes seconds
        }
    if kv_cache_gb is not None:
        settings["kv_cache_memory_bytes"] = int(kv_cache_gb * 2**30)
    command = [python or sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    for name, value in {**settings, **options}.items():
        command += _option(name.replace("_", "-"), value)
    return command, env


def _option(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list):
        return [word for item in value for word in (f"--{name}", str(item))]
    return [f"--{name}", str(value)]


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
