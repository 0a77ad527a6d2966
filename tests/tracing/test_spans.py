"""Tasks from OpenTelemetry's JSON.

1. The GenAI conventions are read in all of their versions, as attributes and as events.
2. Calls of models inside an agent's call are the agent's own; its query and answer are the task's.
3. Files are one document, one document per line, or what the SDK prints.
"""

from __future__ import annotations

import json

import pytest

from tests.tracing.logs import (
    STUDIO_BEFORE,
    STUDIO_NOW,
    attribute_list,
    imported,
    messages_json,
    msg,
    otlp,
    pairs_of,
    parts,
    span,
    studio,
    write_lines,
)

NOW = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.conversation.id": "c1",
    "gen_ai.input.messages": messages_json(("user", "How old is Rome?")),
    "gen_ai.output.messages": messages_json(("assistant", "Very.")),
}
ASKED = {"gen_ai.system": "openai", "gen_ai.request.model": "m-1"}


def event(name, attributes):
    return {"name": name, "timeUnixNano": "1", "attributes": attribute_list(attributes)}


VERSIONS = {
    "messages in attributes": span(1, NOW),
    "messages as values, not as text": {
        **span(1, {}),
        "attributes": [
            {
                "key": f"gen_ai.{side}.messages",
                "value": {
                    "arrayValue": {
                        "values": [
                            {
                                "kvlistValue": {
                                    "values": [
                                        {"key": "role", "value": {"stringValue": role}},
                                        {"key": "content", "value": {"stringValue": text}},
                                    ]
                                }
                            }
                        ]
                    }
                },
            }
            for side, role, text in (
                ("input", "user", "How old is Rome?"),
                ("output", "assistant", "Very."),
            )
        ],
    },
    "details in an event": span(
        1, ASKED, events=[event("gen_ai.client.inference.operation.details", NOW)]
    ),
    "one event per message": span(
        1,
        ASKED,
        events=[
            event("gen_ai.system.message", {"content": "Be brief."}),
            event("gen_ai.user.message", {"content": "How old is Rome?"}),
            event(
                "gen_ai.choice",
                {"index": 0, "finish_reason": "stop", "message": '{"content": "Very."}'},
            ),
        ],
    ),
    "prompt and completion in events": span(
        1,
        ASKED,
        events=[
            event(
                "gen_ai.content.prompt",
                {"gen_ai.prompt": '[{"role": "user", "content": "How old is Rome?"}]'},
            ),
            event(
                "gen_ai.content.completion",
                {"gen_ai.completion": '[{"role": "assistant", "content": "Very."}]'},
            ),
        ],
    ),
    "numbered attributes": span(
        1,
        ASKED
        | {
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "Be brief.",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "How old is Rome?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "Very.",
            "gen_ai.completion.0.finish_reason": "stop",
        },
    ),
    "Vercel's AI SDK": span(
        1,
        {
            "ai.prompt.messages": '[{"role": "user", "content": "How old is Rome?"}]',
            "ai.response.text": "Very.",
        },
    ),
    "OpenInference": span(
        1,
        {
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.contents.0.message_content.type": "text",
            "llm.input_messages.0.message.contents.0.message_content.text": "How old is Rome?",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": "Very.",
        },
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_the_conventions_gives_the_task(version, tmp_path):
    path = write_lines(tmp_path / "spans.jsonl", [otlp(VERSIONS[version])])
    tasks, report = imported(tmp_path, path)
    assert pairs_of(tasks) == [("How old is Rome?", "Very.")]
    assert report.calls == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_without_its_answer_there_is_no_task(version, tmp_path):
    """The negative control of the test above: the answer is really read from the log."""
    text = json.dumps(otlp(VERSIONS[version])).replace("Very.", "")
    (tmp_path / "spans.json").write_text(text)
    tasks, report = imported(tmp_path, tmp_path / "spans.json")
    assert tasks == [] and report.left_out["no final answer"] == 1


def test_log_records_of_a_span_are_its_messages(tmp_path):
    def record(name, body):
        value = {"kvlistValue": {"values": attribute_list(body)}}
        ids = {"traceId": "ab" * 16, "spanId": f"{1:016x}"}
        return {"eventName": name, "attributes": [], "body": value, **ids}

    records = [
        record("gen_ai.user.message", {"content": "How old is Rome?"}),
        record("gen_ai.choice", {"message": '{"content": "Very."}', "finish_reason": "stop"}),
    ]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    alone = write_lines(tmp_path / "logs.jsonl", [logs])
    both = write_lines(tmp_path / "both.jsonl", [logs, otlp(span(1, ASKED))])
    for number, path in enumerate((alone, both)):
        tasks, _ = imported(tmp_path / str(number), path)
        assert pairs_of(tasks) == [("How old is Rome?", "Very.")]


@pytest.mark.parametrize("indent", [None, 4])
def test_what_the_sdk_prints_is_read_in_one_line_each_or_indented(indent, tmp_path):
    printed = [
        {
            "name": "chat m-1",
            "context": {"trace_id": "0x01", "span_id": f"0x0{number}"},
            "parent_id": None,
            "start_time": f"2026-01-01T00:00:0{number}.000000Z",
            "status": {"status_code": "UNSET"},
            "attributes": NOW
            | {"gen_ai.input.messages": messages_json(("user", f"Question {number}?"))},
            "events": [],
        }
        for number in (1, 2)
    ]
    text = "\n".join(json.dumps(item, indent=indent) for item in printed)
    (tmp_path / "printed.json").write_text(text)
    tasks, _ = imported(tmp_path, tmp_path / "printed.json")
    assert pairs_of(tasks) == [("Question 1?", "Very."), ("Question 2?", "Very.")]


def test_an_agent_has_the_query_and_its_model_the_messages_before(tmp_path):
    agent = span(
        1,
        NOW | {"gen_ai.operation.name": "invoke_agent"},
        name="invoke_agent Guide",
    )
    history = (
        ("system", "S"),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "How old is Rome?"),
    )
    first = span(
        2,
        NOW
        | {
            "gen_ai.input.messages": messages_json(*history),
            "gen_ai.output.messages": json.dumps(
                [
                    {
                        "role": "assistant",
                        "parts": [
                            {"type": "tool_call", "id": "1", "name": "look", "arguments": {"x": 1}}
                        ],
                    }
                ]
            ),
            "gen_ai.tool.definitions": '[{"type": "function", "name": "look", "parameters": {}}]',
        },
        parentSpanId=f"{1:016x}",
    )
    helper = span(
        3,
        NOW | {"gen_ai.input.messages": messages_json(("user", "Summarize the page"))},
        parentSpanId=f"{2:016x}",
    )
    path = write_lines(tmp_path / "spans.jsonl", [otlp(helper), otlp(first, agent)])
    [task], report = imported(tmp_path, path)
    assert (task.main_query, task.metadata["answer"]) == ("How old is Rome?", "Very.")
    assert [message["role"] for message in task.init_messages] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert task.metadata["tools"][0]["function"]["name"] == "look"
    assert report.calls == 1


@pytest.mark.parametrize("odd", [None, True, 5, "x", [], [1], {}, {"a": 1}, "9" * 5000])
def test_nothing_in_a_span_ends_an_import(odd, tmp_path):
    spans = [
        span(1, NOW, events=[{"name": "gen_ai.choice", "body": {"message": odd}}]),
        span(2, NOW, startTimeUnixNano=odd),
        span(3, {**NOW, "gen_ai.prompt.\u00b2.role": "user"}),
    ]
    for each in (*spans, span(4, NOW)):
        each["attributes"].append({"key": "n", "value": {"intValue": odd}})
    imported(tmp_path, write_lines(tmp_path / "spans.jsonl", [otlp(each) for each in spans]))


def test_failed_spans_and_spans_of_tools_are_no_tasks(tmp_path):
    failed = span(1, NOW, status={"code": 2})
    tool = span(2, NOW | {"gen_ai.operation.name": "execute_tool"})
    good = span(3, NOW)
    path = write_lines(tmp_path / "spans.jsonl", [otlp(failed, tool, good)])
    tasks, report = imported(tmp_path, path)
    assert len(tasks) == 1 and report.left_out["failed requests"] == 1


OUTPUT = {"gen_ai": {"output": {"messages": json.dumps(parts("assistant", "Very."))}}}
INPUT = {"gen_ai": {"input": {"messages": json.dumps(parts("user", "How old is Rome?"))}}}


@pytest.mark.parametrize(
    ("layout", "attributes"),
    [
        (
            STUDIO_BEFORE,
            {
                "input": {"args": [], "kwargs": {"msg": msg("user", "How old is Rome?")}},
                "output": msg("assistant", [{"type": "text", "text": "Very."}]),
            },
        ),
        (STUDIO_NOW, {"gen_ai": INPUT["gen_ai"] | OUTPUT["gen_ai"]}),
        (STUDIO_NOW, NOW | {"gen_ai.operation.name": "invoke_agent"}),
    ],
)
def test_both_layouts_of_agentscope_studio_are_read(layout, attributes, tmp_path):
    path = studio(tmp_path / "database.sqlite", layout, [{"attributes": attributes}])
    tasks, _ = imported(tmp_path, path)
    assert pairs_of(tasks) == [("How old is Rome?", "Very.")]


def test_a_message_in_python_text_is_parsed_and_never_run(tmp_path):
    marker = tmp_path / "ran"
    evil = f"Msg(content=open({str(marker)!r}, 'w'), role='user')"
    rows = [
        {"attributes": {"input": {"kwargs": {"msg": text}}, "output": msg("assistant", "Very.")}}
        for text in (evil, "Msg(" * 5000, "Msg(role='user', content='It\\'s \"5\"?')", "None")
    ]
    path = studio(tmp_path / "database.sqlite", STUDIO_BEFORE, rows)
    tasks, _ = imported(tmp_path, path)
    assert pairs_of(tasks) == [('It\'s "5"?', "Very.")]
    assert not marker.exists()
