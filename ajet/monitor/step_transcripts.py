"""`transcripts/step_000012.txt`: a few episodes of each training step as text, while it trains.

The episodes with the lowest and the highest reward, and one that failed. `ajet show` shows any.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from ajet.boundary import caught_error
from ajet.monitor.durable_files import written_aside
from ajet.monitor.transcript import FOLDER, Transcript
from ajet.monitor.transcript_view import transcript_view
from ajet.schema.episode import Episode

logger = logging.getLogger(__name__)

WIDTH = 100


class StepTranscripts:
    """Writes one file per step; a file is complete or absent.

    Args:
        run_dir: the run's folder.
        resumed_step: files of later steps are removed; None: a new run.
    """

    def __init__(self, run_dir: Path, *, resumed_step: int | None = None) -> None:
        self._folder = run_dir / FOLDER
        for path in self._folder.glob("step_*.txt*"):
            match = re.fullmatch(r"step_(\d{6,})\.txt", path.name)
            if not match or (resumed_step is not None and int(match[1]) > resumed_step):
                path.unlink()

    def write(self, step: int, episodes: Sequence[Episode]) -> None:
        """Write the examples of a step. What cannot be shown is left out with a warning."""
        with caught_error() as caught:
            text = _text(step, episodes)
        if caught.error is not None:
            logger.warning("no transcripts of step %d: %r", step, caught.error)
            return
        self._folder.mkdir(exist_ok=True)
        with written_aside(self._folder / f"step_{step:06d}.txt") as aside:
            aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def _text(step: int, episodes: Sequence[Episode]) -> str:
    file = io.StringIO()
    console = Console(file=file, width=WIDTH, color_system=None, legacy_windows=False)
    console.print(f"step {step}: {len(episodes)} episodes", highlight=False)
    for title, episode in _examples(episodes):
        console.print()
        console.print(transcript_view(Transcript.of(episode), title))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _examples(episodes: Sequence[Episode]) -> Iterator[tuple[str, Episode]]:
    """Lowest reward, highest reward, and a failure, as far as there are such."""
    valid = sorted(
        (episode for episode in episodes if episode.reward is not None),
        key=lambda episode: episode.reward or 0.0,
    )
    if valid:
        yield "Lowest reward", valid[0]
        if valid[-1].reward != valid[0].reward:
            yield "Highest reward", valid[-1]
    failed = next((episode for episode in episodes if episode.failure is not None), None)
    if failed:
        yield "Failed", failed
