"""The process of a warm engine. It reads its instructions from standard input."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from ajet.backbone.debug.warm_engine.registry import WarmEngine, fingerprint, is_idle
from ajet.backbone.debug.warm_engine.server import CompletionServer
from ajet.config.sections.root import AjetConfig
from ajet.errors import AjetError
from ajet.service.probes import start_ticks
from ajet.training.model_folder import model_folder

POLL_S = 1.0

logger = logging.getLogger(__name__)


class Order(BaseModel):
    """The instructions to the process. Not in its arguments, which all users can read."""

    ajet: AjetConfig
    state: Path
    """The file to create as soon as the engine answers."""
    log: Path
    idle_s: float


@dataclass(slots=True, kw_only=True, frozen=True)
class Served:
    """A server that answers."""

    url: str
    api_key: str
    has_ended: Callable[[], bool]


def main() -> None:
    """Serve until the engine has been idle for `idle_s`, or until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    order = Order.model_validate_json(sys.stdin.read())
    try:
        _serve(order)
    except AjetError as error:
        logger.error("%s", error)
        sys.exit(1)


def _serve(order: Order) -> None:
    ajet = order.ajet
    folder = model_folder(ajet.model.path)
    weights = fingerprint(folder)
    serve = _vllm if ajet.rollout.name == "vllm" else _embedded
    with serve(ajet, folder, order.log) as served:
        WarmEngine(
            engine=ajet.rollout.name,
            model=str(folder.resolve()),
            weights=weights,
            pid=os.getpid(),
            start_ticks=start_ticks(os.getpid()),
            url=served.url,
            api_key=served.api_key,
            started_s=time.time(),
            idle_s=order.idle_s,
            log=str(order.log),
        ).write(order.state)
        logger.info("ready at %s", served.url)
        try:
            _wait(order, served)
        finally:
            order.state.unlink(missing_ok=True)


def _wait(order: Order, served: Served) -> None:
    while not served.has_ended():
        time.sleep(POLL_S)
        try:
            if is_idle(order.state, order.idle_s, time.time()):
                logger.info("not used for %g s", order.idle_s)
                return
        except FileNotFoundError:
            logger.info("%s was deleted, so no run can find this engine", order.state)
            return
    logger.error("the server has ended")


@contextmanager
def _embedded(ajet: AjetConfig, folder: Path, log: Path) -> Iterator[Served]:
    from ajet.backbone.local.entry import EmbeddedServing
    from ajet.backbone.local.policy import load_policy

    policy = load_policy(ajet.model)
    settings = ajet.rollout.model_copy(update={"schedule": "continuous", "max_model_len": None})
    serving = EmbeddedServing(policy, settings, seed=ajet.trainer_common.seed, policy_version=0)
    api_key = secrets.token_urlsafe(32)
    with CompletionServer(serving.engine, api_key) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Served(url=server.url, api_key=api_key, has_ended=lambda: not thread.is_alive())
        finally:
            server.shutdown()
            serving.close()


@contextmanager
def _vllm(ajet: AjetConfig, folder: Path, log: Path) -> Iterator[Served]:
    from ajet.backbone.debug.warm_engine.vllm import make_server

    server = make_server(ajet, folder, log.with_suffix(".vllm.log"))
    server.start()
    try:
        server.wait_until_ready()
        yield Served(
            url=server.base_url,
            api_key=server.api_key,
            has_ended=lambda: server.how_it_ended() is not None,
        )
    finally:
        server.stop()


if __name__ == "__main__":
    main()
