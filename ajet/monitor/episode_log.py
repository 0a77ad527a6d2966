"""`episodes.jsonl`: one line per episode with its outcome and, for a failure, the cause."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ajet.monitor.durable_files import append_json_lines, start_json_lines
from ajet.schema.episode import Episode

FILE_NAME = "episodes.jsonl"

EpisodePhase = Literal["train", "eval", "eval_greedy"]


class EpisodeLog:
    """Appends one line per episode.

    Args:
        run_dir: the run's folder.
        resumed_step: lines of later steps are dropped (-1: all lines); None: a new run.
        was_evaluated: False if the evaluation of `resumed_step` will run again; its lines are
            then dropped, too.
    """

    def __init__(
        self, run_dir: Path, *, resumed_step: int | None = None, was_evaluated: bool = True
    ) -> None:
        self._path = run_dir / FILE_NAME

        def is_kept(line: dict[str, Any]) -> bool:
            is_unfinished = line["step"] == resumed_step and line["phase"] != "train"
            return line["step"] <= resumed_step and (was_evaluated or not is_unfinished)

        start_json_lines(self._path, None if resumed_step is None else is_kept)

    def write(self, step: int, phase: EpisodePhase, episodes: Iterable[Episode]) -> None:
        """Append the episodes of one phase of a step."""
        append_json_lines(
            self._path,
            ({"step": step, "phase": phase, **_record(episode)} for episode in episodes),
        )


def _record(episode: Episode) -> dict[str, Any]:
    failure = episode.failure
    return {
        "episode_id": episode.episode_id,
        "task_id": episode.task.task_id,
        "repeat_index": episode.repeat_index,
        "outcome": failure.kind if failure else "ok",
        "reward": episode.reward,
        "is_success": episode.is_success,
        "cause": failure.message if failure else None,
        "traceback": failure.traceback if failure else None,
        "retries": episode.retries,
        "num_calls": len(episode.calls),
        "agents": _agents(episode),
        "tokens": {
            "calls": sum(c.prompt_length + len(c.completion_ids) for c in episode.calls),
            "sampled": sum(len(c.completion_ids) for c in episode.calls),
            "trained_sequence": sum(len(sample) for sample in episode.samples),
            "trained": sum(sample.num_trained for sample in episode.samples),
        },
        "dropped_tokens": episode.dropped_tokens,
        "started_s": episode.started_s,
        "judge": _judge(episode),
        "duration_s": episode.ended_s - episode.started_s,
        "calls_s": sum(call.ended_s - call.started_s for call in episode.calls),
    }


def _judge(episode: Episode) -> dict[str, Any] | None:
    """The judge's reasons, what they cost, and how long they took; None without a judge."""
    if episode.judge_s is None:
        return None
    return {
        "reasons": episode.judge_reasons,
        "usage": episode.output.judge_usage,
        "seconds": episode.judge_s,
    }


def _agents(episode: Episode) -> dict[str, dict[str, int | None]]:
    """Per agent, the numbers of trained calls, untrained calls and calls of its debug model."""
    agents: dict[str, dict[str, int | None]] = {}
    for name, number in episode.debug_calls.items():
        agents[name] = {"debug": number}
    for call in episode.calls:
        numbers = agents.setdefault(call.agent_name, {})
        kind = "trained" if call.trained else "untrained"
        numbers[kind] = (numbers.get(kind) or 0) + 1
    return agents
