"""A judge by rule behind an OpenAI-compatible URL, for a CPU: it reads the prompt of `ask_judge`.

python -m tutorial.example_learn_to_ask.scripted_judge --port 8087
"""

import re
from typing import Any

from tutorial.example_learn_to_ask.cases import QUESTIONS
from tutorial.tiny_models.scripted_server import serve, text_of


def score(messages: list[dict[str, Any]]) -> str:
    """The scores of the answer in the prompt, in the tags that the prompt asks for."""
    prompt = text_of(messages[-1])
    missing = _section(prompt, "missing").split("\n")
    answer = _section(prompt, "answer")
    asked = [fact for fact, (question, _) in QUESTIONS.items() if question in answer]
    content = 0.0 if len(asked) != 1 else 1.0 if asked[0] in missing else 0.1
    form = 0.0
    if len(asked) == 1 and answer.count("?") == 1:
        question, choices = QUESTIONS[asked[0]]
        rest = answer.replace(question, "").strip()
        form = 1.0 if rest == choices else 0.5 if not rest else 0.0
    return f"<content>{content:g}</content><format>{form:g}</format>"


def _section(prompt: str, name: str) -> str:
    found = re.findall(rf"<{name}>\n(.*?)\n?</{name}>", prompt, re.DOTALL)
    return str(found[-1]).strip() if found else ""


if __name__ == "__main__":
    serve(score, "A judge by rule behind an OpenAI-compatible URL.")
