"""A scripted model that writes questions about facts, and documents that have facts.

A fact is a sentence such as "The Orla tower is 41 metres high."; every name has one height.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ajet.config.sections.task_reader import DataGenerationConfig
from tests.judges.model_server import Body, Reply

FACT = re.compile(r"The (\w+) tower is (\d+) metres high\.")
NAMES = ("Orla", "Bek", "Cimbri", "Dunn", "Elmo", "Farro", "Gald", "Hesse", "Ismo", "Jurr")
NAMES += ("Kolt", "Lumen", "Mirra", "Nauk", "Oste", "Pryle", "Quin", "Rost", "Selva", "Tarn")


def facts(names: tuple[str, ...] = NAMES) -> list[str]:
    return [f"The {name} tower is {40 + NAMES.index(name)} metres high." for name in names]


def write_document(path: Path, names: tuple[str, ...] = NAMES, gap: str = " ") -> Path:
    path.write_text("Towers of the plain. " + gap.join(facts(names)), encoding="utf-8")
    return path


def said(body: Body) -> str:
    """What the user said in the request, without what a client adds to ask for a form."""
    text: str = body["messages"][1]["content"]
    return text


def is_check(body: Body) -> bool:
    return said(body).startswith("<excerpt>")


def is_imitation(body: Body) -> bool:
    return "<example>" in said(body)


def _question(name: str, height: str) -> dict[str, str]:
    return {
        "question": f"In metres, how high is the tower that is called {name}?",
        "answer": height,
        "excerpt": f"The {name} tower is {height} metres high.",
    }


def write(body: Body, number: int) -> Reply:
    """The honest model: all facts of a piece, one new task, or the right verdict."""
    text = said(body)
    if is_check(body):
        question = text.partition("<question>")[2].partition("</question>")[0]
        found = [fact for fact in FACT.findall(text) if fact[0] in question]
        answer = text.partition("<answer>\n")[2].partition("\n</answer>")[0]
        verdict = {"is_answerable": bool(found), "is_right": [answer] == [f[1] for f in found]}
        return Reply(content=json.dumps({"reason": "so it says", **verdict}))
    found = FACT.findall(text)
    if not is_imitation(body):
        return Reply(content=json.dumps({"questions": [_question(*fact) for fact in found]}))
    asked = int(re.findall(r"request number (\d+)", text)[0])
    if not found:
        new = {"question": f"{asked} + {asked}?", "answer": str(2 * asked), "excerpt": ""}
        return Reply(content=json.dumps(new))
    name, height = found[asked % len(found)]
    new = {"question": f"Is {name}'s tower more than {asked} metres high?", "answer": height}
    new["excerpt"] = f"The {name} tower is {height} metres high."
    return Reply(content=json.dumps(new))


def changed(**fields: Any) -> Callable[[Body, int], Reply]:
    """The same model, but each question that it writes has these fields."""

    def script(body: Body, number: int) -> Reply:
        reply = write(body, number)
        if is_check(body):
            return reply
        content = json.loads(reply.content or "")
        for item in content.get("questions", [content]):
            item |= fields
        return Reply(content=json.dumps(content))

    return script


def settings(folder: Path, url: str, **given: Any) -> DataGenerationConfig:
    """Settings with a folder for everything; documents are those of the folder `documents`."""
    documents = folder / "documents"
    base: dict[str, Any] = {
        "document_reader": {"document_path": [str(documents)] if documents.exists() else []},
        "task_num": 6,
        "output_dir": str(folder / "generated"),
        "llm_model": "writer",
        "model_client": {"base_url": url, "cache_dir": str(folder / "cache"), "max_retries": 0},
    }
    for key, value in given.items():
        base[key] = {**base[key], **value} if isinstance(base.get(key), dict) else value
    return DataGenerationConfig.model_validate(base)
