"""`ajet serve RUN` answers requests with the tuned model; `ajet chat RUN` in the terminal."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ajet.commands.view import Host, Port
from ajet.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from ajet.serving.models import ServedModel

KEY_VARIABLE = "AJET_SERVE_KEY"


class EngineName(StrEnum):
    EMBEDDED = "embedded"
    VLLM = "vllm"


Run = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the run's."),
]
Step = Annotated[
    str | None, typer.Option(help="The checkpoint: a step or best; by default the newest.")
]
Engine = Annotated[
    EngineName | None, typer.Option(help="What samples; by default the run's rollout.name.")
]
Base = Annotated[bool, typer.Option(help="Also load the model that the run started from.")]


def serve(
    run: Run,
    overrides: Overrides = None,
    step: Step = None,
    engine: Engine = None,
    base: Base = True,
    host: Host = "127.0.0.1",
    port: Port = 0,
) -> None:
    """Serve the tuned model and its base model, each under its name, as an OpenAI-compatible API.

    Requests need the key that is printed, or the one in the variable AJET_SERVE_KEY.

    Example: ajet serve saved_experiments/math_agent_cpu --port 8000
    """
    from ajet.config.sections.interchange_server import InterchangeServerConfig
    from ajet.gateway.clients.http_endpoint import server_class, start_server
    from ajet.launcher.signals import sigterm_as_ctrl_c
    from ajet.serving.server import MODEL_ROUTE, ModelRouter

    # Before a model is loaded, which may take minutes.
    server_class()
    _refuse_taken(host, port)
    settings = InterchangeServerConfig(host=host, port=port)
    with sigterm_as_ctrl_c(), _models(run, step, engine, base, overrides) as models:
        router = ModelRouter(models)
        server = start_server(settings, answer=router.answer, more_routes=[MODEL_ROUTE])
        try:
            own_key = os.environ.get(KEY_VARIABLE)
            key = server.keys.issue(models[0].session(), own_key)
            typer.echo(f"URL     {server.base_url}")
            typer.echo(f"key     {f'the one in {KEY_VARIABLE}' if own_key else key}")
            typer.echo(f"models  {', '.join(model.name for model in models)}")
            typer.echo("Ctrl-C ends the server")
            sys.stdout.flush()
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("the server ends")
        finally:
            server.stop()


def chat(
    run: Run,
    overrides: Overrides = None,
    step: Step = None,
    engine: Engine = None,
    base: Base = True,
    system: Annotated[str | None, typer.Option(help="The system message.")] = None,
) -> None:
    """Talk to the tuned model in the terminal; /model changes to the base model and back.

    Example: ajet chat saved_experiments/math_agent_cpu
    """
    with _models(run, step, engine, base, overrides) as models:
        typer.echo(f"models: {', '.join(model.name for model in models)}")
        typer.echo("/model: the next model   /new: a new conversation   /end or Ctrl-D: end")
        try:
            _talk(models, system)
        except (EOFError, KeyboardInterrupt):
            typer.echo("")


def _refuse_taken(host: str, port: int) -> None:
    """Find out early that the server could not listen there.

    Raises:
        ConfigError: another program has the port, or the host is no address of this machine.
    """
    try:
        [family, *_], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: cannot listen there: {error.strerror}; choose another "
            "port, or 0 for a free one"
        ) from error


def _models(
    run: Path,
    step: str | None,
    engine: EngineName | None,
    base: bool,
    overrides: list[str] | None,
) -> Any:
    from ajet.serving.models import open_models

    return open_models(
        run,
        step=step,
        with_base=base,
        engine=engine and engine.value,
        overrides=overrides or [],
    )


def _talk(models: list[ServedModel], system: str | None) -> None:
    """One conversation after the other, until the input ends.

    The input is read outside the event loop: a thread that waits for it would keep Ctrl-C from
    ending the command.
    """
    from ajet.gateway.clients.openai_client import openai_client

    start = [{"role": "system", "content": system}] if system else []
    number, messages = 0, list(start)
    client = openai_client(models[0].session())
    with asyncio.Runner() as runner:
        while (text := input("> ").strip()) not in ("/end", "/exit", "/quit"):
            if text in ("/model", "/new"):
                number = (number + 1) % len(models) if text == "/model" else number
                client, messages = openai_client(models[number].session()), list(start)
                typer.echo(f"a new conversation with {models[number].name}")
            elif text:
                messages.append({"role": "user", "content": text})
                answer = runner.run(_answer(client, messages))
                messages.append({"role": "assistant", "content": answer})


async def _answer(client: Any, messages: list[dict[str, str]]) -> str:
    """Print an answer as it comes; returns its text."""
    from ajet.gateway.clients.openai_client import streamed_text

    parts: list[str] = []
    try:
        async for part in streamed_text(client, messages):
            parts.append(part)
            typer.echo(_printable(part), nl=False)
    except RequestError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
    typer.echo("" if parts else "(no text)")
    return "".join(parts)


def _printable(text: str) -> str:
    """The text without control characters: a model may not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
