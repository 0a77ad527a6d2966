"""Debug runs of the real command, answered by a warm engine that is a script in this process."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ajet.backbone.debug.warm_engine.registry import WarmEngine, fingerprint, state_path
from ajet.backbone.debug.warm_engine.server import CompletionServer
from ajet.config.loading.load import load_config
from ajet.config.loading.paths import resolve_model_path
from ajet.context_tracker.chat_format import load_tokenizer
from ajet.engine.scripted import ScriptedEngine
from ajet.service.probes import start_ticks

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-test"
ANSWER = "Answer: 49"
MODEL = Path(resolve_model_path("ajet:calculator"))

CONF = """\
ajet:
  model: {path: "ajet:calculator", renderer: qwen3, enable_thinking: false}
  rollout:
    user_workflow: agent.py->Agent
    max_response_length_in_one_turn: 40
  task_reader: {type: random_dummy}
"""

AGENT = """\
import sys, threading
from ajet import Workflow, WorkflowOutput, bp

class Agent(Workflow):
    async def execute(self, workflow_task, tuner):
        client = tuner.as_raw_openai_sdk_client()
        messages = [{"role": "user", "content": "How many?"}]
        completion = await client.chat.completions.create(model="policy", messages=messages)
        answer = completion.choices[0].message.content
        HERE
        return WorkflowOutput(reward=float("49" in answer))
"""


def write_agent(folder: Path, here: str = "pass") -> Path:
    """The YAML file of an agent that asks once, with a line of the test's in it."""
    (folder / "agent.py").write_text(AGENT.replace("HERE", here))
    (folder / "agent.yaml").write_text(CONF)
    return folder / "agent.yaml"


def command(*args: str) -> list[str]:
    """Of the command line."""
    return [sys.executable, "-m", "ajet.cli", *args]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Warm engines of this folder only, and our package."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder), **more}


def debug_command(conf: Path, *args: str) -> list[str]:
    """A debug run of one task."""
    folder = conf.parent
    return command(
        "--conf", str(conf), "--backbone=debug", f"--exp-dir={folder}/runs", *args,
        "debug.num_tasks=1",
    )  # fmt: skip


def debug(conf: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        debug_command(conf, *args),
        cwd=conf.parent,
        env=environment(conf.parent),
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def scripted_warm_engine(folder: Path, conf: Path) -> Iterator[ScriptedEngine]:
    """Answers `ANSWER` to everything, and is found by debug runs of this configuration."""
    tokenizer = load_tokenizer(MODEL)
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = [*tokenizer.encode(ANSWER), stop]
    engine = ScriptedEngine(lambda prompt, params, session: ids, tokenizer=tokenizer)
    with CompletionServer(engine, KEY) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        path = state_path(load_config(conf).ajet, MODEL)
        WarmEngine(
            engine="embedded",
            model=str(MODEL),
            weights=fingerprint(MODEL),
            pid=os.getpid(),
            start_ticks=start_ticks(os.getpid()),
            url=server.url,
            api_key=KEY,
            started_s=time.time(),
            idle_s=60.0,
            log="",
        ).write(path)
        try:
            yield engine
        finally:
            path.unlink()
            server.shutdown()
            thread.join()


class Terminal:
    """A process on a terminal of its own, at which the test sits."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder, TERM="dumb", COLUMNS="100"),
            preexec_fn=lambda: os.login_tty(theirs),  # Ctrl-C works, as at a real one
        )
        os.close(theirs)
        self.text = ""
        """All that it wrote."""

    def read_until(self, pattern: str, timeout_s: float = 240.0) -> str:
        """What it writes up to the next match of the pattern; all there is where it ends."""
        seen, deadline = "", time.monotonic() + timeout_s
        while not re.search(pattern, seen):
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{self.text}"
            if not select.select([self._terminal], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(self._terminal, 65536).decode(errors="replace")
            except OSError:  # Linux's way to say that the other side has closed
                break
            self.text += piece
            seen += piece
        return seen

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._terminal, f"{line}\n".encode())

    def press(self, key: bytes) -> None:
        """Press one key."""
        os.write(self._terminal, key)

    def wait(self) -> int:
        """Read to the end; the exit code."""
        self.read_until("(?!)")
        return self.process.wait(60)

    def close(self) -> None:
        """Whatever happened."""
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)
