"""Prints an episode: its calls, its samples with the trained tokens marked, its reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ajet.monitor.transcript import Transcript
from ajet.monitor.transcript_view import printable, turns_view
from ajet.schema.episode import Episode, Sample

Decode = Callable[[list[int]], str]

CONTEXT, TRAINED = "  ", "▌ "
"""Prefixes of a sample's lines: context, and trained tokens."""

HEAD_CHARACTERS, TAIL_CHARACTERS = 400, 200
"""How much of long context is shown; trained tokens are always shown in full."""


def show_episode(console: Console, episode: Episode, title: str, decode: Decode) -> None:
    """Print calls, samples and outcome; the messages where there is no sample.

    Args:
        console: its width is used; without a terminal, the text has no colours.
        episode: an episode that has ended.
        title: printed as the first line.
        decode: turns token ids into text, special tokens included.
    """
    _show_title(console, title)
    if episode.calls:
        console.print(_calls_table(episode))
    for number, sample in enumerate(episode.samples, start=1):
        _show_sample(console, sample, number, decode)
    if not episode.samples:
        console.print(turns_view(Transcript.of(episode).turns))
    _show_outcome(console, episode)


def show_text_episode(console: Console, episode: Episode, title: str) -> None:
    """Print the messages and the outcome of an episode whose tokens are not known."""
    _show_title(console, title)
    console.print(turns_view(Transcript.of(episode).turns))
    _show_outcome(console, episode)


def show_problem(console: Console, problem: str) -> None:
    """Print one problem as a line that stands out."""
    row = Table.grid()
    row.add_row(Text("! ", "bold yellow"), Text(printable(problem)))
    console.print(row)


def runs_of(sample: Sample) -> Iterator[tuple[slice, int]]:
    """Stretches of a sample with one author: position, and the call that sampled it or -1."""
    ends = np.flatnonzero(np.diff(sample.call_index)) + 1
    edges = [0, *ends.tolist(), len(sample)]
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        yield slice(start, end), int(sample.call_index[start])


def _show_title(console: Console, title: str) -> None:
    console.print()
    console.print(Rule(Text(title, "bold"), align="left", characters="─", style="dim"))


def _calls_table(episode: Episode) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("call", "prompt", "new", "sampled"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("agent", "finish", "timeline"):
        table.add_column(name, overflow="fold")
    number_of: dict[str | None, int] = {call.call_id: call.index for call in episode.calls}
    for call in episode.calls:
        table.add_row(
            str(call.index),
            str(call.prompt_length),
            str(len(call.delta_ids)),
            str(len(call.completion_ids)),
            Text(printable(call.agent_name) + ("" if call.trained else " (not trained)")),
            call.finish_reason,
            call.new_timeline or f"continues {number_of[call.parent_id]}",
        )
    return table


def _show_sample(console: Console, sample: Sample, number: int, decode: Decode) -> None:
    calls = np.unique(sample.call_index[sample.loss_mask]).tolist()
    console.print(
        Text(
            f"sample {number}: {len(sample)} tokens, {sample.num_trained} trained "
            f"({TRAINED}call{'s' * (len(calls) > 1)} {', '.join(map(str, calls))})",
            "bold",
        )
    )
    for where, call in runs_of(sample):
        text = printable(decode(sample.ids[where].tolist())).strip("\n")
        is_trained = call >= 0
        body = Text(text if is_trained else _shortened(text), "green" if is_trained else "dim")
        prefix = Text(TRAINED, "bold green") if is_trained else Text(CONTEXT)
        for line in body.wrap(console, console.width - len(CONTEXT), overflow="fold"):
            console.print(prefix + line)


def _shortened(text: str) -> str:
    rest = len(text) - HEAD_CHARACTERS - TAIL_CHARACTERS
    if rest <= 0:
        return text
    return f"{text[:HEAD_CHARACTERS]}\n… {rest:,} more characters …\n{text[-TAIL_CHARACTERS:]}"


def _show_outcome(console: Console, episode: Episode) -> None:
    failure = episode.failure
    reasons = episode.judge_reasons
    if reasons is not None:
        console.print(Text("judge's reasons", "bold"))
        for line in _reason_lines(reasons):
            console.print(Text(printable(line), "cyan"))
    if failure is None:
        console.print(Text(f"= {Transcript.of(episode).outcome}", "bold"))
        return
    # Not wrapped, so that editors can open the files and lines that it names.
    console.print(Text(printable(failure.traceback.rstrip()), "red"), soft_wrap=True)
    console.print(Text(f"= failed: {failure.kind}: {printable(failure.message)}", "bold red"))


def _reason_lines(reasons: Any, indent: str = "  ") -> Iterator[str]:
    """The judge's reasons, a line for each value; containers are indented."""
    if isinstance(reasons, dict):
        for name, value in reasons.items():
            if isinstance(value, dict | list):
                yield f"{indent}{name}:"
                yield from _reason_lines(value, f"{indent}  ")
            else:
                yield f"{indent}{name}: {value}"
    elif isinstance(reasons, list):
        for number, value in enumerate(reasons, start=1):
            if isinstance(value, dict) and not any(
                isinstance(v, dict | list) for v in value.values()
            ):
                yield f"{indent}{number}. " + "; ".join(f"{k} {v}" for k, v in value.items())
            elif isinstance(value, dict | list):
                yield f"{indent}{number}."
                yield from _reason_lines(value, f"{indent}  ")
            else:
                yield f"{indent}{value}"
    else:
        yield f"{indent}{reasons}"
