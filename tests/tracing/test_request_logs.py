"""Tasks from logs of requests to OpenAI's and Anthropic's API.

1. The usual shapes of a log are read: request and response, transcripts, streams.
2. All calls of an agent's loop on one user message are one task; its answer is the last one.
3. What cannot be a task is left out and counted, and never ends the import.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from ajet.errors import DataError
from tests.tracing.logs import chat_request, imported, pairs_of, write_lines

USER = {"role": "user", "content": "How old is Rome?"}
ANSWER = {"role": "assistant", "content": "Very."}
CHOICES = {"choices": [{"message": ANSWER, "finish_reason": "stop"}]}
CLAUDE = {"content": [{"type": "text", "text": "Very."}], "stop_reason": "end_turn"}
CHUNKS = [
    {"choices": [{"delta": {"role": "assistant", "content": "Ve"}}]},
    {"choices": [{"delta": {"content": "ry."}, "finish_reason": "stop"}]},
]
EVENTS = [
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ve"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ry."}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
]

SHAPES = {
    "request and response": {"request": {"messages": [USER]}, "response": CHOICES},
    "bodies as text": {
        "request_body": json.dumps({"messages": [USER]}),
        "response_body": json.dumps(CHOICES),
    },
    "fields of the request beside the response": {"messages": [USER], "response": CHOICES},
    "envelopes": {
        "request": {"url": "/v1/chat/completions", "body": {"messages": [USER]}},
        "response": {"status_code": 200, "body": CHOICES},
    },
    "a transcript": {"messages": [USER, ANSWER]},
    "messages of Anthropic": {
        "request": {"system": [{"type": "text", "text": "Be brief."}], "messages": [USER]},
        "response": CLAUDE,
    },
    "responses API": {
        "request": {"instructions": "Be brief.", "input": "How old is Rome?"},
        "response": {
            "output": [
                {"type": "reasoning", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Very."}],
                },
            ]
        },
    },
    "chunks of a stream": {"request": {"messages": [USER]}, "response": CHUNKS},
    "events of Anthropic's stream": {"request": {"messages": [USER]}, "response": EVENTS},
    "text of a stream": {
        "request": {"messages": [USER]},
        "response": "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS)
        + "data: [DONE]\n",
    },
    "text alone": {"request": {"messages": [USER]}, "completion": "Very."},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_usual_shape_gives_the_task(shape, tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [SHAPES[shape]])
    tasks, _ = imported(tmp_path, path)
    assert pairs_of(tasks) == [("How old is Rome?", "Very.")]


def test_a_streamed_text_may_contain_any_end_of_a_line(tmp_path):
    words = ["One\u2028", "two\x85", "three"]
    lines = [
        json.dumps({"choices": [{"delta": {"content": word}}]}, ensure_ascii=False)
        for word in words
    ]
    record = {
        "request": {"messages": [USER]},
        "response": "".join(f"data: {line}\r\n\r\n" for line in lines),
    }
    tasks, _ = imported(tmp_path, write_lines(tmp_path / "log.jsonl", [record]))
    assert pairs_of(tasks) == [("How old is Rome?", "".join(words))]


ODD: list[Any] = [None, True, -1, "x", '{"a": 1}', [], [1], [[]], {}, {"a": 1}]


@pytest.mark.parametrize(
    "record",
    [
        lambda odd: {"response": [{"choices": [odd]}]},
        lambda odd: {"response": [{"choices": [{"delta": odd}]}]},
        lambda odd: {"response": [{"choices": [{"delta": {"content": odd}}]}]},
        lambda odd: {"response": [{"choices": [{"delta": {"tool_calls": odd}}]}]},
        lambda odd: {"response": [{"choices": [{"delta": {"tool_calls": [odd]}}]}]},
        lambda odd: {"response": [{"choices": [{"delta": {"tool_calls": [{"function": odd}]}}]}]},
        lambda odd: {"response": [{"choices": [{"delta": {"tool_calls": [{"index": odd}]}}]}]},
        lambda odd: {"response": [{"index": odd, "content_block": {"type": "tool_use"}}]},
        lambda odd: {"response": [{"index": odd, "delta": {"partial_json": odd}}]},
        lambda odd: {"response": {"candidates": [{"content": {"parts": [odd]}}]}},
        lambda odd: {
            "response": {"candidates": [{"content": {"parts": [{"functionResponse": odd}]}}]}
        },
        lambda odd: {"response": {"output": [odd]}},
        lambda odd: {"response": {"content": [odd]}},
        lambda odd: {"metadata": odd, "response": odd},
    ],
)
def test_nothing_in_a_record_ends_an_import(record, tmp_path):
    good = SHAPES["text alone"]
    lines = [{"request": {"messages": [USER]}, **record(odd)} for odd in ODD]
    imported(tmp_path, write_lines(tmp_path / "log.jsonl", [*lines, good]))


def loop_of_anthropic():
    """Three requests of an agent's loop: a tool is called, and the last one answers."""
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {"city": "Rome"}}
    first = [{"role": "user", "content": [{"type": "text", "text": "How old is Rome?"}]}]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "-753"}
    second = [
        *first,
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    calls = [{"type": "text", "text": "I look."}, use]
    return [
        {
            "request": {"system": "Guide.", "messages": first, "tools": tools},
            "response": {"content": calls, "stop_reason": "tool_use"},
        },
        {"request": {"system": "Guide.", "messages": second, "tools": tools}, "response": CLAUDE},
    ]


def test_an_agents_loop_is_one_task_with_the_last_answer(tmp_path):
    [task], report = imported(tmp_path, write_lines(tmp_path / "log.jsonl", loop_of_anthropic()))
    assert (task.main_query, task.metadata["answer"]) == ("How old is Rome?", "Very.")
    assert [message["role"] for message in task.init_messages] == ["system", "user"]
    assert task.metadata["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert report.calls == 2


def test_each_turn_of_a_conversation_is_a_task_with_the_turns_before(tmp_path):
    use = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turns = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [use]},
        {"role": "tool", "tool_call_id": "t1", "content": "-753"},
        ANSWER,
        {"role": "user", "content": "And Athens?"},
    ]
    older = {"choices": [{"message": {"role": "assistant", "content": "Older."}}]}
    records = [
        {"request": {"messages": [USER]}, "response": CHOICES},
        {"request": {"messages": turns}, "response": older},
    ]
    first, second = imported(tmp_path, write_lines(tmp_path / "log.jsonl", records))[0]
    assert pairs_of([first, second]) == [("How old is Rome?", "Very."), ("And Athens?", "Older.")]
    assert first.init_messages == []
    assert [m["role"] for m in second.init_messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert first.metadata["conversation"] == second.metadata["conversation"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (chat_request("How?", None), "no final answer"),
        (chat_request("How?", ""), "no final answer"),
        (chat_request("   ", "Well"), "no user message"),
        ({"request": {"messages": [{"role": "system", "content": "x"}]}}, "no user message"),
        (
            {
                "request": {"messages": [USER]},
                "response": {"choices": [{"message": ANSWER, "finish_reason": "length"}]},
            },
            "no final answer",
        ),
        (
            {
                "request": {
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "text", "text": "What is this?"},
                                {"type": "image_url", "image_url": {"url": "data:..."}},
                            ],
                        }
                    ]
                },
                "response": CHOICES,
            },
            "images or other media",
        ),
        (chat_request("How?", "Well", error={"message": "overloaded"}), "failed requests"),
        (chat_request("How?", "Well", status_code=529), "failed requests"),
        ({"level": "info", "msg": "started"}, "records that are no request"),
        ([1], "records that are no request"),
    ],
)
def test_what_cannot_be_a_task_is_left_out_and_counted(record, reason, tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [record, chat_request("Good?", "Yes")])
    tasks, report = imported(tmp_path, path)
    assert pairs_of(tasks) == [("Good?", "Yes")]
    assert report.left_out[reason] == 1


def test_without_an_answer_a_task_is_kept_where_that_is_wanted(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [chat_request("How?", None)])
    [task], _ = imported(tmp_path, path, require_answer=False)
    assert "answer" not in task.metadata


def test_broken_lines_are_counted_and_the_first_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [
        b"2026-01-01 INFO starting",
        b"\xff\xfe\x00 binary",
        b'{"request": ' + b"[" * 100_000,
        json.dumps(chat_request("Good?", "Yes")).encode(),
        b'{"a": ' + b"1" * 5000 + b"}",
        b"",
    ]
    path.write_bytes(b"\n".join(lines) + b'{"request": {"mess')
    tasks, report = imported(tmp_path, path)
    assert pairs_of(tasks) == [("Good?", "Yes")]
    assert report.left_out["broken lines"] == 4
    assert any(f"{path}:1" in line for line in report.lines())


def test_half_characters_and_nulls_become_what_a_reader_accepts(tmp_path):
    path = tmp_path / "log.jsonl"
    record = json.dumps(chat_request("A pair: @, half: #", "Yes"))
    path.write_text(record.replace("@", "\\ud83d\\ude00").replace("#", "\\ud83d"))
    [task], _ = imported(tmp_path, path)
    assert task.main_query == "A pair: \U0001f600, half: \ufffd"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10, "no line is a JSON object"),
        (b'{"level": "info"}\n{"level": "warn"}\n', "none of 2 records is a request"),
    ],
)
def test_a_file_that_is_no_log_is_an_error_that_says_what_was_expected(content, words, tmp_path):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        imported(tmp_path, tmp_path / "file.json")
    assert "expected" in str(caught.value)
