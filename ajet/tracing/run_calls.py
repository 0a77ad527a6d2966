"""The tasks of our own runs, from the calls that a run records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ajet.monitor.call_store import FOLDER, call_path, read_calls, recorded_steps
from ajet.schema.episode import Episode
from ajet.tracing.logged_calls import TracedTask, digest, key_of_task

FAILED = "failed episodes"
NO_QUERY = "no query"


def is_run(path: Path) -> bool:
    """Whether the folder is a run's, with recorded calls."""
    return (path / FOLDER).is_dir()


def tasks_of_run(
    run: Path, after_step: int, left_out: Counter[str]
) -> tuple[list[TracedTask], int, int]:
    """One task of each task id, number of episodes read, and the last step.

    Of several episodes, the most successful one gives the answer. An answer that the run did not
    count as a success is not kept: nothing says that it is right.

    Raises:
        DataError: a file is damaged.
    """
    best: dict[str, tuple[float, Episode, int]] = {}
    count, last = 0, after_step
    for step in recorded_steps(run):
        if step <= after_step:
            continue
        last = step
        for episode in read_calls(call_path(run, step)).episodes:
            count += 1
            if episode.failure is not None:
                left_out[FAILED] += 1
                continue
            score = (1e9 if episode.is_success else 0.0) + (episode.reward or 0.0)
            known = best.get(episode.task.task_id)
            if known is None or score > known[0]:
                best[episode.task.task_id] = (score, episode, step)
    tasks = [_task(episode, f"{run}:step {step}") for _, episode, step in best.values()]
    left_out[NO_QUERY] += sum(task is None for task in tasks)
    return [task for task in tasks if task is not None], count, last


def _task(episode: Episode, place: str) -> TracedTask | None:
    task = episode.task
    if not task.main_query and not task.init_messages:
        return None
    metadata = {**task.metadata, "conversation": digest(task.task_id), "source": place}
    if episode.reward is not None:
        metadata["logged_reward"] = episode.reward
    answers = [call.response.get("content") for call in episode.calls if call.trained]
    if episode.is_success and "answer" not in metadata and answers and answers[-1]:
        metadata["answer"] = answers[-1]
    task = task.model_copy(update={"metadata": metadata})
    return TracedTask(task=task, key=key_of_task(task))
