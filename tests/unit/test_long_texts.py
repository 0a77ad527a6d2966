"""Texts of models and documents are read in time proportional to their length.

A regular expression holds the interpreter: where it needs the square of a length, one episode stops
all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ajet.data_generation.documents import text_of_file
from ajet.gateway.response_format import without_fence
from ajet.model_client.answer_form import read_form
from ajet.task_judge.math_answer_as_judge import plain_number, stated_answer
from ajet.task_judge.verdicts import scored_form
from ajet.tracing.redaction import emails, secrets

LENGTH = 20_000
MOST_S = 1.0
"""CPU time; a square of the length takes tens of seconds, its cube hours."""

UNITS = (" ", "\n", " \n", "a", "a.", "a-", "1 ", "a://", "password ", "```json\n", "answer ", "\t")


def _form(text: str) -> object:
    return read_form(text, scored_form(0, 1))


def _document(text: str) -> object:
    return text_of_file(Path("a.txt"), f"{text}{'x' * 100}".encode())


@pytest.mark.parametrize(
    "read",
    [
        stated_answer,
        lambda text: plain_number(f"${text}"),
        lambda text: without_fence({"content": f"```json{text}x"}),
        lambda text: without_fence({"content": f"```json{text}```"}),
        _form,
        lambda text: _form(f"```json{text}"),
        secrets,
        emails,
        _document,
    ],
    ids=[
        "answer",
        "number",
        "open fence",
        "fence",
        "form",
        "fenced form",
        "secrets",
        "emails",
        "document",
    ],
)
def test_a_long_text_is_read_in_little_time(read: Callable[[str], object]) -> None:
    for unit in UNITS:
        text = unit * (LENGTH // len(unit)) + "x"
        began_s = time.thread_time()
        read(text)
        assert time.thread_time() - began_s < MOST_S, f"of {unit!r}"


@pytest.mark.parametrize(
    ("content", "inside"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('```\n\n{"a": 1}```', '{"a": 1}'),
        ("\n```json \n[1]\n\n ```\n", "[1]"),
        ("```\n1\n2\n```", None),
        ('```python\n{"a": 1}\n```', None),
        ('```json {"a": 1}```', None),
        ('text ```json\n{"a": 1}\n```', None),
        ("```", None),
        ("````", None),
        ("", None),
    ],
)
def test_only_a_fence_around_json_is_taken_away(content: str, inside: str | None) -> None:
    expected = content if inside is None else inside
    assert without_fence({"content": content})["content"] == expected


def test_a_name_of_any_length_does_not_hide_a_secret() -> None:
    name = "x" * 200
    assert secrets(f"{name}_password=hunter22") == f"{name}_password=[secret]"
    assert secrets('{"my-api_key": "abcdefgh"}') == '{"my-api_key": "[secret]"}'
    assert emails(f"{'a.' * 100}b@example.org").endswith("[email]")
