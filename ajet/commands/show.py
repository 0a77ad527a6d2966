"""`ajet show RUN`: the episodes of a step in the terminal, also while the run trains."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError, DataError

if TYPE_CHECKING:  # these import rich, pyarrow and sqlite
    from rich.console import RenderableType

    from ajet.viewer.episode_index import EpisodeIndex

INDEX_PATIENCE_S = 600.0
LISTED = 20
"""Episodes of a list, unless `-n` says otherwise."""
MESSAGE_SHOWN = 4000
"""Characters of a message that are shown; the viewer shows all of it."""
ID_SHOWN = 8
"""Characters of an episode's id in a list; `--episode` takes them."""
METADATA_SHOWN = 400
"""Characters of an episode's metadata that are shown."""


def show(
    run: Annotated[
        str, typer.Argument(help="The folder or the name of a run.", show_default=False)
    ],
    step: Annotated[int | None, typer.Option(help="The step; by default the last one.")] = None,
    worst: Annotated[bool, typer.Option("--worst", help="The lowest rewards first.")] = False,
    best: Annotated[bool, typer.Option("--best", help="The highest rewards first.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only episodes that failed.")] = False,
    task: Annotated[str | None, typer.Option(help="Only episodes of the task of this id.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only episodes with this agent.")] = None,
    episode: Annotated[
        str | None, typer.Option(help="The episode whose id begins like this.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("-n", min=1, help="How many; by default 1, of a list 20.")
    ] = None,
    exp_dir: Annotated[Path, typer.Option(help="Folder in which run folders are made.")] = Path(
        AjetConfig.model_fields["experiment_dir"].default
    ),
) -> None:
    """Show the episodes of a step: the conversation, its reward, what failed.

    Without a choice of episodes, lists the episodes of the step. Files are only read.

    Example: ajet show saved_experiments/math_agent_cpu --step 12 --worst
    """
    from rich.console import Console
    from rich.text import Text

    if worst and best:
        raise ConfigError("--worst and --best exclude each other; give only one of them")
    folder = _folder(run, exp_dir)
    index = _index_of(folder)
    step = _last_step(index, folder) if step is None else step
    given = {"task_id": task, "agent": agent, "failed": "yes" if failed else None}
    given |= {"sort": "reward", "order": "desc" if best else "asc", "phase": "train"}
    is_list = not (worst or best or failed or task or agent or episode)
    whole_id = _whole_id(index, step, episode) if episode else None
    given |= {"limit": str(number or (LISTED if is_list else 1)), "episode_id": whole_id}
    page = _page(index, step, given)
    console = Console(file=sys.stdout, highlight=False)
    console.print(Text(_head(folder, step, page), "bold"), soft_wrap=True)
    if not page["rows"]:
        raise DataError(_nothing(index, step))
    views = [_table(page["rows"])] if is_list else (_view(folder, row) for row in page["rows"])
    for view in views:
        console.print()
        console.print(view)
    if is_list:
        console.print()
        console.print(f"ajet show {run} --step {step} --worst   shows a conversation", style="dim")


def _folder(run: str, exp_dir: Path) -> Path:
    from ajet.viewer.run_view import is_run

    tried = [Path(run).expanduser(), exp_dir.expanduser() / run]
    for folder in tried:
        if folder.is_dir() and is_run(folder):
            return folder
    raise ConfigError(f'there is no run "{run}"; looked in {" and ".join(map(str, tried))}')


def _index_of(folder: Path) -> EpisodeIndex:
    from ajet.viewer.episode_index import EpisodeIndex

    index = EpisodeIndex(folder)
    index.refresh(INDEX_PATIENCE_S)
    return index


def _last_step(index: EpisodeIndex, folder: Path) -> int:
    found = index.rows("SELECT max(step) AS step FROM episodes WHERE phase = 'train'")
    last = found[0]["step"]
    if last is None:
        raise DataError(f"{folder}: no training episode is recorded yet")
    return int(last)


def _whole_id(index: EpisodeIndex, step: int, start: str) -> str:
    """The id of a step that begins with `start`; `start` itself if there is none."""
    found = index.rows(
        "SELECT episode_id FROM episodes WHERE step = ? AND substr(episode_id, 1, ?) = ? LIMIT 1",
        (step, len(start), start),
    )
    return str(found[0]["episode_id"]) if found else start


def _page(index: EpisodeIndex, step: int, given: Mapping[str, str | None]) -> dict[str, Any]:
    from ajet.viewer.episode_query import EpisodeQuery, run_query

    asked = {name: value for name, value in given.items() if value is not None}
    return run_query(index, EpisodeQuery.parse({**asked, "step": str(step)}))


def _nothing(index: EpisodeIndex, step: int) -> str:
    """Why there is no episode to show."""
    there = index.rows("SELECT DISTINCT step FROM episodes WHERE phase = 'train' ORDER BY step")
    steps = [row["step"] for row in there]
    if step not in steps:
        return f"step {step} has no training episodes; the run has steps {steps[0]} to {steps[-1]}"
    return f"no episode of step {step} is of that kind; leave out a condition"


def _head(folder: Path, step: int, page: Mapping[str, Any]) -> str:
    mean = page["reward_mean"]
    reward = "" if mean is None else f", mean reward {mean:.3f}"
    plural = "" if page["total"] == 1 else "s"
    return (
        f"{folder.name}, step {step}: {page['total']} episode{plural}{reward}, "
        f"{page['failed']} failed"
    )


def _table(rows: list[dict[str, Any]]) -> RenderableType:
    """One line per episode."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from ajet.monitor.transcript_view import printable

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("task", "repeat", "reward", "result", "calls", "tokens", "episode"):
        right = title in ("repeat", "reward", "calls", "tokens")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for row in rows:
        reward = "-" if row["reward"] is None else f"{row['reward']:g}"
        result = _result(row)
        style = "green" if row["is_success"] else "red"
        cells = [row["task_id"], row["repeat_index"], reward, Text(result, style)]
        cells += [row["num_calls"], row["sampled"], row["episode_id"][:ID_SHOWN]]
        table.add_row(
            *(c if isinstance(c, Text) else printable("-" if c is None else str(c)) for c in cells)
        )
    return table


def _result(row: Mapping[str, Any]) -> str:
    if row["outcome"] != "ok":
        return str(row["outcome"])
    return {1: "success", 0: "no success", None: "-"}[row["is_success"]]


def _view(folder: Path, row: Mapping[str, Any]) -> RenderableType:
    """One episode: title, one row per message, and the outcome."""
    from rich.console import Group
    from rich.text import Text

    from ajet.monitor.transcript_view import printable, turns_view
    from ajet.viewer.episode_detail import episode_detail

    detail = episode_detail(folder, row["step"], row["episode_id"])
    title = f"task {row['task_id']}, repeat {row['repeat_index']}, episode {row['episode_id']}"
    outcome = _result(row) + ("" if row["reward"] is None else f", reward {row['reward']:g}")
    if row["cause"]:
        outcome += f": {row['cause']}"
    style = "bold green" if row["is_success"] else "bold red"
    notes = [*_metadata(detail), *detail["missing"]]
    return Group(
        Text(printable(title), "bold"),
        turns_view(tuple(_turns(detail)), max_characters=MESSAGE_SHOWN),
        Text(f"= {printable(outcome)}", style),
        *(Text(printable(note), "dim") for note in notes),
    )


def _metadata(detail: Mapping[str, Any]) -> Iterator[str]:
    import json

    output = detail["output"]
    metadata = output.get("metadata") if isinstance(output, dict) else None
    if metadata:
        text = json.dumps(metadata, ensure_ascii=False)
        yield f"metadata {text if len(text) <= METADATA_SHOWN else text[:METADATA_SHOWN] + ' …'}"


def _turns(detail: Mapping[str, Any]) -> Iterator[Any]:
    """The messages in the order of calls, with what each answer got."""
    from ajet.monitor.transcript import Turn

    calls = detail["calls"]
    several = len({call["agent"] for call in calls}) > 1
    for call in calls:
        agent = call["agent"] if several else ""
        if call["new_timeline"] not in (None, "first_call", "new_conversation"):
            yield Turn(role="note", text=f"a new context begins: {call['reason_text']}")
        for message in (*call["messages"], call["response"]):
            for part in message["parts"]:
                role = "thinking" if part["kind"] == "thinking" else message["role"] or "assistant"
                is_tool = part["kind"] == "tool_call"
                text = f"→ {part['name']}({part['text']})" if is_tool else part["text"]
                yield Turn(role=role, text=text, agent=agent)
        yield Turn(role="note", text=_note(call), agent=agent)


def _note(call: Mapping[str, Any]) -> str:
    parts = [f"{call['completion_length']} tokens"]
    if call["finish_reason"] == "length":
        parts.append("cut by the limit")
    if not call["trained"]:
        parts.append("not trained")
    for name in ("reward", "advantage"):
        if call[name] is not None:
            parts.append(f"{name} {call[name]:.3g}")
    return ", ".join(parts)
