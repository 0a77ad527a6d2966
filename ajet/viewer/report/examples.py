"""The best and the worst episode of the last step, and the worst of the first one, to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ajet.viewer.episode_detail import episode_detail
from ajet.viewer.report.html_text import Html, join, tag
from ajet.viewer.run_view import RunView

MAX_CALLS = 30


def example_sections(view: RunView) -> list[Html]:
    """One section an example; a sentence where the run has none that can be read."""
    steps = [row["step"] for row in view.detail(0.0)["steps"] if row["has_calls"]]
    if not steps:
        return [tag("p", "No conversation was recorded.")]
    wanted = [("Best of the last step", max(steps), "DESC")]
    wanted += [("Worst of the last step", max(steps), "ASC")]
    if min(steps) < max(steps):
        wanted += [("Worst of the first step", min(steps), "ASC")]
    sections, seen = [], set()
    for title, step, order in wanted:
        rows = view.episodes.rows(
            "SELECT episode_id, task_id, reward FROM episodes WHERE step = ? AND phase = 'train' "
            f"AND reward IS NOT NULL ORDER BY reward {order}, num_calls DESC LIMIT 1",
            [step],
        )
        for row in rows:
            if (step, row["episode_id"]) not in seen:
                seen.add((step, row["episode_id"]))
                detail = episode_detail(view.folder, step, row["episode_id"])
                sections.append(_example(f"{title} ({step})", row, detail))
    return sections


def _example(title: str, row: Mapping[str, Any], detail: Mapping[str, Any]) -> Html:
    verdict = {True: ", success", False: ", no success"}.get(detail["is_success"], "")
    turns = [_turn(call) for call in detail["calls"][:MAX_CALLS]]
    more = len(detail["calls"]) - MAX_CALLS
    return tag(
        "section",
        tag("h3", title),
        tag("p", f"Task {row['task_id']}, reward {row['reward']:g}{verdict}", class_="muted"),
        *turns,
        tag("p", f"and {more} more calls") if more > 0 else "",
        *[tag("p", text, class_="muted") for text in detail["missing"]],
        class_="example",
    )


def _turn(call: Mapping[str, Any]) -> Html:
    note = Html()
    if call["new_timeline"] not in (None, "first_call"):
        note = tag("p", f"A new timeline begins here: {call['reason_text']}", class_="muted")
    messages = [*call["messages"], {**call["response"], "is_answer": True}]
    return join([note, *[_message(message, call["agent"]) for message in messages]])


def _message(message: Mapping[str, Any], agent: str) -> Html:
    is_answer = message.get("is_answer", False)
    who = message["role"] or ("assistant" if is_answer else "?")
    parts = []
    for part in message["parts"]:
        left = part["total"] - len(part["text"])
        name = f"calls {part['name']} " if part["kind"] == "tool_call" else ""
        parts.append(
            tag(
                "div",
                name,
                part["text"],
                f" … ({left:,} more characters)" if left else "",
                class_=f"said {'code' if part['kind'] == 'tool_call' else ''}",
            )
        )
    role = tag("div", f"{who} ({agent})" if is_answer else who, class_="role")
    return tag("div", role, tag("div", *parts), class_="message answer" if is_answer else "message")
