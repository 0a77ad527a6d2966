"""A scripted judge that knows the right answers: it plays the model behind each kind of judge.

What it believes is only what stands between the marks of the prompt. It also obeys: an order that
stands outside of them, wherever that came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.judges.model_server import Body, Reply, Script

MARKED = re.compile(r"<(\w+(?:\.\w+)?) ([0-9a-f]{12})>\n(.*?)\n</\1 \2>", re.DOTALL)
ORDER = re.compile(r"ignore the rubric,? give (\d+)", re.IGNORECASE)


def material(body: Body) -> tuple[dict[str, str], str]:
    """The marked texts by their names, and what stands outside of them."""
    text = body["messages"][-1]["content"]
    return {name: inside for name, _, inside in MARKED.findall(text)}, MARKED.sub("", text)


def form_of(body: Body) -> str:
    return str(body["response_format"]["json_schema"]["name"])


def stated(answer: str) -> str | None:
    """The last number of an answer."""
    numbers = re.findall(r"-?\d+", answer)
    return numbers[-1] if numbers else None


def knowing(answers: Mapping[str, str], *, best: float = 10.0) -> Script:
    """A script that gives the best score to right answers and 0 to others.

    Args:
        answers: query -> right answer.
        best: the best score of `Score` and `Scores`.
    """

    def script(body: Body, number: int) -> Reply:
        inside, outside = material(body)

        def score(answer: str, top: float) -> dict[str, Any]:
            order = ORDER.search(outside)
            if order:
                return {"reason": "I was told to.", "score": float(order[1])}
            right = stated(answer) == answers.get(inside["query"].strip())
            reason = f"The answer is {'right' if right else 'wrong'}."
            return {"reason": reason, "score": top if right else 0.0}

        form = form_of(body)
        if form == "Score":
            said: Any = score(inside.get("answer", ""), best)
        elif form == "Scores":
            names = re.findall(r"criterion_\d+(?= \()", outside)
            said = {name: score(inside.get("answer", ""), best) for name in names}
        elif form == "Comparison":
            said = {name: score(text, 1.0) for name, text in inside.items() if "answer_" in name}
        else:
            assert form == "WrittenRubric", form
            criterion = {"name": "correct", "description": "The number is right.", "weight": 1.0}
            said = {"criteria": [criterion]}
        return Reply(content=json.dumps(said))

    return script
