"""Templated cases for the doctor's assistant: a complaint, what is known, what is missing.

    python -m tutorial.example_learn_to_ask.cases tutorial/example_learn_to_ask/data

writes the example's data. Rows have the fields that the preprocessing of real conversations
writes: `session_id`, `main_query` (the conversation so far), and in `metadata` `decision_truth`
(continue or stop) and `info_truth` (facts that are still to be asked). A complaint with a set of
known facts is in one split only, whoever the patient is and whatever the patient answered.
"""

import argparse
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

QUESTIONS = {
    "duration": ("How long have you had it?", "days / weeks / months"),
    "fever": ("Do you have a fever?", "yes / no"),
    "pain": ("How strong is the pain?", "mild / strong"),
    "allergy": ("Do you have an allergy?", "yes / no / unknown"),
    "medicine": ("Do you take any medicine?", "yes / no"),
    "sleep": ("How do you sleep?", "well / badly"),
}
"""Fact -> question and choices."""
NEEDED = {
    "cough": ("duration", "fever", "medicine", "sleep"),
    "headache": ("duration", "pain", "sleep"),
    "rash": ("duration", "allergy", "medicine"),
    "sore throat": ("duration", "fever", "pain"),
    "stomach ache": ("pain", "fever", "medicine", "allergy"),
    "dizziness": ("medicine", "sleep", "duration"),
    "itchy eyes": ("allergy", "duration", "sleep"),
    "back pain": ("pain", "duration", "medicine", "sleep"),
}
"""Complaint -> facts that a doctor wants."""
AGES = ("child", "teenager", "adult", "old person")
NUM_TRAIN = 800
NUM_VALIDATION = 256


class Split(Enum):
    """The use of a case; the value is the range of its hash, modulo 10."""

    WARM_UP = range(0, 5)
    TRAIN = range(5, 8)
    VALIDATION = range(8, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A conversation in which the assistant has to ask the next question, or stop."""

    patient: str
    complaint: str
    known: tuple[tuple[str, str], ...]
    """Facts and the patient's answers, in the order in which they were asked."""

    @property
    def missing(self) -> list[str]:
        """Facts that are still to be asked."""
        known = {fact for fact, _ in self.known}
        return [fact for fact in NEEDED[self.complaint] if fact not in known]

    @property
    def key(self) -> str:
        """What decides the right answer: the complaint and the known facts, in any order."""
        return f"{self.complaint} {' '.join(sorted(fact for fact, _ in self.known))}"

    @property
    def conversation(self) -> str:
        """The conversation so far."""
        lines = [f"patient ({self.patient}): I have a {self.complaint}."]
        for fact, answer in self.known:
            lines += [f"assistant: {QUESTIONS[fact][0]}", f"patient: {answer}"]
        return "\n".join(lines)

    def as_row(self, task_id: str) -> dict[str, Any]:
        """The case as one JSON line."""
        return {
            "task_id": task_id,
            "main_query": self.conversation,
            "metadata": {
                "session_id": task_id,
                "decision_truth": "continue" if self.missing else "stop",
                "info_truth": self.missing,
            },
        }


def make_case(rng: random.Random) -> Case:
    """A random case; in about a third of them nothing is missing."""
    complaint = rng.choice(list(NEEDED))
    needed = list(NEEDED[complaint])
    rng.shuffle(needed)
    known = needed if rng.random() < 0.33 else needed[: rng.randrange(len(needed))]
    others = [fact for fact in QUESTIONS if fact not in needed]
    known = known + rng.sample(others, rng.choice((0, 0, 1)))
    rng.shuffle(known)
    return Case(
        patient=rng.choice(AGES),
        complaint=complaint,
        known=tuple((fact, rng.choice(QUESTIONS[fact][1].split(" / "))) for fact in known),
    )


def split_of(case: Case) -> Split:
    """The split of a case."""
    key = zlib.crc32(case.key.encode()) % 10
    return next(split for split in Split if key in split.value)


def generate(split: Split) -> Iterator[Case]:
    """Cases of a split without end, the same ones each time."""
    rng = random.Random(f"cases {split.name}")
    while True:
        case = make_case(rng)
        if split_of(case) is split:
            yield case


def first_cases(split: Split, count: int) -> list[Case]:
    """The first cases of a split."""
    return [case for case, _ in zip(generate(split), range(count), strict=False)]


def main() -> None:
    """Write `train.jsonl` and `validation.jsonl` into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for split, count in ((Split.TRAIN, NUM_TRAIN), (Split.VALIDATION, NUM_VALIDATION)):
        name = split.name.lower()
        rows = [case.as_row(f"{name}-{n}") for n, case in enumerate(first_cases(split, count))]
        path = args.folder / f"{name}.jsonl"
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
