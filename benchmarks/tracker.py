"""What the context tracker costs per call, in time and memory, in three kinds of large episodes.

- `long`: one timeline of many calls.
- `unrelated`: many timelines that share nothing, one call each.
- `rerendered`: a history that grows, whose first message is another one in each call, so that every
  call is rendered from scratch and is a timeline of its own.

CPU time of one thread, without an engine: prompt, record and samples. `python_calls_per_call`
counts function calls, in Python and in C, with the profiler on; `memory_kb_per_call` is what Python
allocates for the record. Both are of 1,000 calls at most, and the same on every machine.

    python benchmarks/tracker.py --json [--scale S]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ajet.config.sections.model import ModelConfig
from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.tracker import ContextTracker
from ajet.schema.episode import Generation, SamplingParams
from ajet.training.model_folder import chat_format_of

MODEL = Path(__file__).resolve().parents[1] / "ajet" / "tiny_model" / "calculator"

Messages = list[dict[str, Any]]
Requests = Callable[[int], Iterator[tuple[str, Messages]]]
"""From a number of calls to their agents and messages; each is asked after the one before."""

ANSWER = "2"


def chat_format() -> ChatFormat:
    """That of the shipped model."""
    return chat_format_of(ModelConfig(path=str(MODEL), renderer="qwen3"), MODEL)


def long(calls: int) -> Iterator[tuple[str, Messages]]:
    """One timeline: each request has the answers so far."""
    messages = [{"role": "user", "content": "Add."}]
    for _ in range(calls):
        yield "agent", messages
        # A template may drop the thoughts before a user's message, but not before a tool's.
        turn = [{"role": "assistant", "content": ANSWER}, {"role": "tool", "content": "1"}]
        messages = [*messages, *turn]


def unrelated(calls: int) -> Iterator[tuple[str, Messages]]:
    """Timelines that have no message in common."""
    for number in range(calls):
        yield "agent", [{"role": "user", "content": f"{number} + 1?"}]


def rerendered(calls: int) -> Iterator[tuple[str, Messages]]:
    """A history whose first message has changed in every call."""
    history: Messages = []
    for number in range(calls):
        history = [*history, {"role": "user", "content": "1 + 1?"}]
        yield "agent", [{"role": "system", "content": f"Step {number}."}, *history]
        history = [*history, {"role": "assistant", "content": ANSWER}]


CASES: dict[str, tuple[Requests, int]] = {
    "long": (long, 10_000),
    "unrelated": (unrelated, 800),
    "rerendered": (rerendered, 200),
}
"""Name -> its requests, and how many the benchmark makes."""


class Episode:
    """Answers requests at once, and records them."""

    def __init__(self, chat: ChatFormat) -> None:
        self.tracker = ContextTracker(chat, episode_id="e")
        self.tokens = 0
        """Number of tokens in all prompts so far."""
        ids = chat.tokenizer.encode(ANSWER) + [chat.stop_token_ids[0]]
        self._generation = Generation(
            token_ids=ids,
            logprobs=[-1.0] * len(ids),
            policy_versions=[0] * len(ids),
            finish_reason="stop",
        )

    def ask(self, agent: str, messages: Messages) -> None:
        """One call."""
        prompt = self.tracker.prompt(agent, messages, None)
        self.tokens += len(prompt.ids)
        self.tracker.record(
            prompt,
            self._generation,
            params=SamplingParams(max_tokens=8),
            response={"role": "assistant", "content": ANSWER},
            target_tag="agent",
            trained=True,
            started_s=0.0,
            ended_s=0.0,
            finish_reason="stop",
        )


def run(name: str, calls: int, chat: ChatFormat) -> Episode:
    """All calls of a case, and the samples."""
    episode = Episode(chat)
    for agent, messages in CASES[name][0](calls):
        episode.ask(agent, messages)
    episode.tracker.samples()
    return episode


def python_calls(work: Callable[[], object]) -> int:
    """Function calls, in Python and in C, while it works."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def measure(name: str, calls: int, chat: ChatFormat) -> dict[str, Any]:
    """One row."""
    episode = Episode(chat)
    times = []
    for agent, messages in CASES[name][0](calls):
        started = time.process_time()
        episode.ask(agent, messages)
        times.append(1e3 * (time.process_time() - started))
    started = time.process_time()
    samples, _ = episode.tracker.samples()
    samples_ms = 1e3 * (time.process_time() - started)
    few = max(10, calls // 10)
    counted = calls if calls <= 1000 else 1000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = run(name, counted, chat)
    memory = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del kept
    return {
        "name": name,
        "calls": calls,
        "samples": len(samples),
        "prompt_tokens": episode.tokens,
        "cpu_ms_first_calls": round(sum(times[:few]) / few, 3),
        "cpu_ms_last_calls": round(sum(times[-few:]) / few, 3),
        "cpu_ms_samples": round(samples_ms, 1),
        "python_calls_per_call": round(python_calls(lambda: run(name, counted, chat)) / counted),
        "memory_kb_per_call": round(memory / 1024 / counted, 2),
    }


def main() -> None:
    """Print the rows, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the calls")
    options = parser.parse_args()
    chat = chat_format()
    rows = []
    for name, (_, calls) in CASES.items():
        rows.append(measure(name, max(20, int(options.scale * calls)), chat))
        if not options.json:
            print(rows[-1], flush=True)
    if options.json:
        print(json.dumps({"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
