"""Makes tasks from recorded conversations: before each answer of the doctor, what is still asked?

    python -m tutorial.example_learn_to_ask.preprocess sessions.jsonl FOLDER --model qwen-plus

A line of `sessions.jsonl` is one conversation:

    {"session_id": "17", "diagn": "cold", "dialogue": [{"role": "patient", "content": "..."}, ...]}

The first step asks a model for the facts that the doctor asks for in the rest of a conversation,
and appends each answer to `facts.jsonl`. If it is stopped, the same command continues after the
last line. The second step writes `train.jsonl` and `validation.jsonl`; all rounds of a session are
in one of them.
"""

import argparse
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from ajet.model_client import ModelClient, ModelClientConfig

VALIDATION_SHARE = 0.1
PROMPT = """\
Here is the rest of a conversation between a doctor and a patient. List the facts about the patient
that the doctor asks for in it, each in a few words. Leave out advice and greetings.

{rest}"""


class Facts(BaseModel):
    """What the model answers."""

    facts: list[str] = Field(description="Facts that the doctor asks for, in order.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A conversation up to an answer of the doctor, and its rest."""

    session_id: str
    number: int
    diagnosis: str
    past: str
    rest: str

    @property
    def key(self) -> str:
        """Names the round in `facts.jsonl`."""
        return f"{self.session_id}-{self.number}"


def rounds_of(session: dict[str, Any]) -> Iterator[Round]:
    """One round for each answer of the doctor."""
    lines = [f"{turn['role']}: {turn['content']}" for turn in session["dialogue"]]
    doctor = [i for i, turn in enumerate(session["dialogue"]) if turn["role"] == "doctor"]
    for number, index in enumerate(doctor):
        yield Round(
            session_id=str(session["session_id"]),
            number=number,
            diagnosis=str(session.get("diagn", "")),
            past="\n".join(lines[:index]),
            rest="\n".join(lines[index:]),
        )


def extract_facts(rounds: list[Round], path: Path, model: ModelClient, workers: int) -> None:
    """Append one line per round to a file; rounds that it already has are left out."""
    done = {row["key"] for row in _read(path)}
    left = [one for one in rounds if one.key not in done]

    def ask(one: Round) -> dict[str, Any]:
        question = [{"role": "user", "content": PROMPT.format(rest=one.rest)}]
        return {"key": one.key, "facts": model.ask_blocking(question, form=Facts).value.facts}

    with ThreadPoolExecutor(workers) as pool, path.open("a", encoding="utf-8") as file:
        for row in pool.map(ask, left):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()


def write_tasks(rounds: list[Round], facts: dict[str, list[str]], folder: Path) -> None:
    """Write the tasks of both splits."""
    splits: dict[str, list[str]] = {"train": [], "validation": []}
    for one in rounds:
        is_validation = zlib.crc32(one.session_id.encode()) % 1000 < 1000 * VALIDATION_SHARE
        task = {
            "task_id": one.key,
            "main_query": one.past,
            "metadata": {
                "session_id": one.session_id,
                "diagn": one.diagnosis,
                "decision_truth": "continue" if facts[one.key] else "stop",
                "info_truth": facts[one.key],
            },
        }
        line = json.dumps(task, ensure_ascii=False) + "\n"
        splits["validation" if is_validation else "train"].append(line)
    for name, lines in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; a last line that was not written to its end is cut off."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def main() -> None:
    """Extract facts, then write the tasks."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("sessions", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--base-url", help="of an OpenAI-compatible server")
    parser.add_argument("--workers", type=int, default=16)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    settings = {"model": args.model, "base_url": args.base_url, "cache": False}
    model = ModelClient(ModelClientConfig.model_validate(settings), purpose="preprocess")
    rounds = [one for session in _read(args.sessions) for one in rounds_of(session)]
    extract_facts(rounds, args.folder / "facts.jsonl", model, args.workers)
    facts = {row["key"]: row["facts"] for row in _read(args.folder / "facts.jsonl")}
    write_tasks([one for one in rounds if one.past], facts, args.folder)


if __name__ == "__main__":
    main()
