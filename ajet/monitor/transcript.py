"""One episode as readable text, stored in the run folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ajet.monitor.durable_files import written_aside
from ajet.schema.episode import Call, Episode

logger = logging.getLogger(__name__)

FOLDER = "transcripts"


@dataclass(slots=True, kw_only=True, frozen=True)
class Turn:
    """One message of the transcript."""

    role: str
    """A message's role, `thinking`, or `note` for a remark by AgentJet."""
    text: str
    agent: str = ""
    """The agent whose conversation this is; empty if the episode has only one agent."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Transcript:
    """One episode as text."""

    task_id: str
    turns: tuple[Turn, ...]
    """The messages in the order of calls."""
    outcome: str
    """One line with the reward, or the reason why there is none."""
    is_success: bool | None

    @classmethod
    def of(cls, episode: Episode) -> Transcript:
        """The readable form of an episode."""
        several = len({call.agent_name for call in episode.calls}) > 1
        return cls(
            task_id=episode.task.task_id,
            turns=tuple(turn for call in episode.calls for turn in _turns(call, several)),
            outcome=_outcome(episode),
            is_success=episode.is_success,
        )


def choose_example(episodes: Sequence[Episode]) -> Episode:
    """The example to show: the first unsuccessful episode, otherwise the first episode.

    It is chosen before training, so that showing the same task afterwards is an honest comparison.
    """
    return next((episode for episode in episodes if not episode.is_success), episodes[0])


def save_transcript(transcript: Transcript, run_dir: Path, name: str) -> None:
    """Write `transcripts/<name>.json`, which a resumed run can still show."""
    (run_dir / FOLDER).mkdir(exist_ok=True)
    with written_aside(run_dir / FOLDER / f"{name}.json") as aside:
        aside.write_text(json.dumps(asdict(transcript), indent=1))


def load_transcript(run_dir: Path, name: str) -> Transcript | None:
    """Load a transcript that `save_transcript` wrote; None if there is none that can be read."""
    path = run_dir / FOLDER / f"{name}.json"
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text())
        return Transcript(**fields | {"turns": tuple(Turn(**turn) for turn in fields["turns"])})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        logger.warning("%s is left out, since it is damaged: %s", path, error)
        return None


def _turns(call: Call, several: bool) -> Iterator[Turn]:
    agent = call.agent_name if several else ""
    if call.new_timeline not in (None, "first_call"):
        reason = str(call.new_timeline).replace("_", " ")
        yield Turn(role="note", text=f"a new context begins here: {reason}", agent=agent)
    for message in (*call.messages, call.response):
        thinking = message.get("reasoning_content")
        if thinking:
            yield Turn(role="thinking", text=str(thinking), agent=agent)
        yield Turn(role=str(message.get("role", "assistant")), text=_text(message), agent=agent)
    if call.finish_reason == "length":
        yield Turn(role="note", text="cut off: no tokens left for this answer", agent=agent)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "\n".join(part.get("text", f"[{part.get('type')}]") for part in content)
    tools = (_tool_call(tool_call["function"]) for tool_call in message.get("tool_calls") or ())
    return "\n".join(part for part in (content.strip(), *tools) if part)


def _tool_call(function: dict[str, Any]) -> str:
    """`→ name(key="value")`; arguments that are not a JSON object are shown as they are."""
    arguments = function["arguments"]
    try:
        fields = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict):
        pairs = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())
        arguments = ", ".join(pairs)
    return f"→ {function['name']}({arguments})"


def _outcome(episode: Episode) -> str:
    if episode.failure is not None:
        return f"failed: {episode.failure.kind}: {episode.failure.message}"
    verdict = {True: "success, ", False: "no success, ", None: ""}[episode.is_success]
    calls = len(episode.calls)
    return f"{verdict}reward {episode.reward:g}, {calls} call{'s' if calls != 1 else ''}"
