"""An import of traces as a whole: position, redaction, duplicates, split, command.

1. A second import adds only what is new in the logs; edits of the output file stay.
2. Secrets and e-mail addresses never reach the output file.
3. A conversation is never in both splits, in whatever order its parts arrive.
4. A damaged, locked or foreign database is an error that says what to do.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ajet.cli import app
from ajet.config.sections.tracing import TracingConfig
from ajet.errors import ConfigError, DataError
from ajet.schema.task import Task
from ajet.tracing.import_traces import import_traces
from ajet.tracing.reader import split
from tests.tracing.logs import (
    STUDIO_NOW,
    chat_request,
    imported,
    otlp,
    pairs_of,
    parts,
    span,
    studio,
    write_lines,
)


def queries(tasks):
    return [task.main_query for task in tasks]


def add_line(path, record, *, end="\n"):
    with path.open("a") as file:
        file.write(json.dumps(record) + end)


def test_a_second_import_adds_what_is_new(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [chat_request("First?")])
    assert queries(imported(tmp_path, path)[0]) == ["First?"]
    add_line(path, chat_request("Second?"))
    whole = json.dumps(chat_request("Third?"))
    with path.open("a") as file:
        file.write(whole[:40])
    tasks, report = imported(tmp_path, path)
    assert queries(tasks) == ["First?", "Second?"]
    assert (report.calls, report.new) == (1, 1)
    with path.open("a") as file:
        file.write(whole[40:])
    tasks, report = imported(tmp_path, path)
    assert queries(tasks) == ["First?", "Second?", "Third?"]
    assert imported(tmp_path, path)[1].calls == 0


def test_a_rotated_or_replaced_log_is_read_from_its_beginning(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [chat_request(f"Old {i}?") for i in range(3)])
    imported(tmp_path, path)
    write_lines(path, [chat_request("Old 1?"), chat_request("New?")])
    tasks, report = imported(tmp_path, path)
    assert queries(tasks) == ["Old 0?", "Old 1?", "Old 2?", "New?"]
    assert report.left_out["same query as another task"] == 1


def test_edits_and_removals_in_the_output_stay(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [chat_request("Keep?"), chat_request("Remove?")])
    imported(tmp_path, path)
    output = tmp_path / "out" / "tasks.jsonl"
    kept = json.loads(output.read_text().splitlines()[0])
    kept["metadata"]["answer"] = "by hand"
    output.write_text(json.dumps(kept))  # without the end of the line
    add_line(path, chat_request("New?"))
    tasks, _ = imported(tmp_path, path)
    assert pairs_of(tasks) == [("Keep?", "by hand"), ("New?", "42")]


def test_from_the_start_nothing_is_added_twice(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [chat_request("One?"), chat_request("Two?")])
    imported(tmp_path, path)
    settings = {"sources": [str(path)], "train_output_path": str(tmp_path / "out/tasks.jsonl")}
    report = import_traces(TracingConfig.model_validate(settings), from_start=True)
    assert (report.calls, report.new, report.total) == (2, 0, 2)


def test_a_database_is_read_after_the_stored_row(tmp_path):
    def rows(*numbers):
        return [
            {
                "attributes": {
                    "gen_ai.input.messages": json.dumps([parts("user", f"Q{number}?")]),
                    "gen_ai.output.messages": json.dumps([parts("assistant", "A")]),
                }
            }
            for number in numbers
        ]

    path = studio(tmp_path / "d.sqlite", STUDIO_NOW, rows(1, 2))
    assert imported(tmp_path, path)[1].calls == 2
    studio(path, STUDIO_NOW, rows(3))
    tasks, report = imported(tmp_path, path)
    assert (queries(tasks), report.calls) == (["Q1?", "Q2?", "Q3?"], 1)
    path.unlink()
    studio(path, STUDIO_NOW, rows(4, 5, 6, 7))
    tasks, report = imported(tmp_path, path)
    # Another database under the same name; the stored row 3 has the same id, so 1 call is new.
    assert queries(tasks)[-1] == "Q7?"


def test_what_a_running_program_has_in_its_write_ahead_log_is_read(tmp_path):
    path = studio(tmp_path / "d.sqlite", STUDIO_NOW, [])
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    attributes = {
        "gen_ai.input.messages": json.dumps([parts("user", "Live?")]),
        "gen_ai.output.messages": json.dumps([parts("assistant", "Yes")]),
    }
    writer.execute(
        "INSERT INTO span_table VALUES ('1', 't', '1', NULL, 'chat', 1, '1', '2', ?, NULL, NULL, "
        "'{}', '{}', '{}', NULL, NULL, NULL, 1.0)",
        [json.dumps(attributes)],
    )
    writer.execute("BEGIN IMMEDIATE")  # and it is writing the next one
    tasks, _ = imported(tmp_path, path)
    assert queries(tasks) == ["Live?"]
    writer.close()


def test_a_locked_or_damaged_or_foreign_database_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("ajet.tracing.studio_database.BUSY_S", 0.1)
    path = studio(tmp_path / "d.sqlite", STUDIO_NOW, [{"attributes": {"a": "b" * 9000}}] * 50)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DataError, match="locked: another program is writing"):
        imported(tmp_path, path)
    writer.close()
    half = tmp_path / "half.sqlite"
    half.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(DataError, match="damaged or incomplete"):
        imported(tmp_path, half)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE users (id)")
    connection.close()
    with pytest.raises(DataError, match="the tables are users"):
        imported(tmp_path, foreign)


SECRETS = [
    "sk-proj-Abc123def456Ghi789jkl",
    "sk-ant-api03-abcdefghijklmnop1234",
    "ghp_abcdefghijklmnopqrst1234567890",
    "hf_abcdefghijklmnopqrstuvwx",
    "AKIAABCDEFGHIJKLMNOP",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc-def_ghi",
    "xoxb-123456789012-abcdefghij",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_reaches_no_part_of_the_output(secret, tmp_path):
    use = {"id": "1", "function": {"name": "f", "arguments": json.dumps({"key": secret})}}
    messages = [
        {"role": "system", "content": f"Use {secret}."},
        {"role": "user", "content": "Call f"},
        {"role": "assistant", "content": "", "tool_calls": [use]},
        {"role": "tool", "tool_call_id": "1", "content": f"ok {secret}"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": f"Again with {secret}, please"},
    ]
    answer = {"choices": [{"message": {"content": f"It is {secret}"}}]}
    tools = [{"type": "function", "function": {"name": "f", "description": f"Key {secret}"}}]
    record = {"request": {"messages": messages, "tools": tools}, "response": answer}
    tasks, report = imported(tmp_path, write_lines(tmp_path / "log.jsonl", [record]))
    assert secret not in (tmp_path / "out/tasks.jsonl").read_text()
    assert tasks[0].main_query == "Again with [secret], please"
    assert report.redacted["secrets"] == 7
    (tmp_path / "without").mkdir()
    imported(tmp_path / "without", tmp_path / "log.jsonl", redaction=[])
    assert secret in (tmp_path / "without/out/tasks.jsonl").read_text()  # the negative control


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my password: hunter2!, ok", "my password: [secret], ok"),
        ("API_KEY=abcd1234efgh", "API_KEY=[secret]"),
        ('{"db_password": "x9x9x9"}', '{"db_password": "[secret]"}'),
        ('{"password": "pa,ss (wo)rd", "x": 1}', '{"password": "[secret]", "x": 1}'),
        ('{"password": "a\\"b c", "x": 1}', '{"password": "[secret]", "x": 1}'),
        ("{'passphrase': 'correct horse'}", "{'passphrase': '[secret]'}"),
        (
            '{"token": "ab", "clientSecret": "cd"}',
            '{"token": "[secret]", "clientSecret": "[secret]"}',
        ),
        ('{"password": null, "secret": ""}', '{"password": null, "secret": ""}'),
        ("refresh_token=abcd.efgh&x=1", "refresh_token=[secret]"),
        ("The token is valid, id tokens: 12", "The token is valid, id tokens: 12"),
        (
            json.dumps({"a": json.dumps({"b": json.dumps({"api_key": "k, 1", "x": 1})})}),
            json.dumps({"a": json.dumps({"b": json.dumps({"api_key": "[secret]", "x": 1})})}),
        ),
        ("curl -H 'Authorization: Bearer abcdef123456.ghi'", None),
        ("postgres://me:pw123@db/x", "postgres://[secret]@db/x"),
        ("ann.lee+x@mail.example.co.uk wrote", "[email] wrote"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----.", "[secret]."),
        ("What is the secret of a good soup?", "What is the secret of a good soup?"),
        ("Tokens: 12, step 3 @ 4 pm", "Tokens: 12, step 3 @ 4 pm"),
        ("The task-sk-force and sky-scrapers-are-not-keys", None),
    ],
)
def test_the_default_redaction_changes_secrets_and_nothing_else(text, expected, tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [chat_request(text)])
    [task], _ = imported(tmp_path, path)
    if expected is not None:
        assert task.main_query == expected
    elif "Bearer" in text:
        assert task.main_query == "curl -H 'Authorization: Bearer [secret]'"
    else:
        assert task.main_query == text


def test_further_redactions_and_the_users_own(tmp_path):
    (tmp_path / "mine.py").write_text("def names(text):\n    return text.replace('Ann', 'A.')\n")
    text = "Ann: call +49 30 1234567, 10.0.0.7, card 4111 1111 1111 1111, order 4111111111111112"
    path = write_lines(tmp_path / "log.jsonl", [chat_request(text)])
    names = ["phone_numbers", "ip_addresses", "credit_cards", f"{tmp_path}/mine.py->names"]
    [task], _ = imported(tmp_path, path, redaction=names)
    assert task.main_query == (
        "A.: call [phone number], [ip address], card [card], order 4111111111111112"
    )
    (tmp_path / "bad.py").write_text("def f(text):\n    return None\n")
    with pytest.raises(DataError, match="returned None, expected a text"):
        imported(tmp_path / "2", path, redaction=[f"{tmp_path}/bad.py->f"])


def test_a_conversation_is_never_in_both_splits(tmp_path):
    lines = []
    for number in range(40):
        messages = []
        for turn in range(4):
            messages.append({"role": "user", "content": f"Chat {number}, turn {turn}: why?"})
            answer = {"role": "assistant", "content": f"Because {turn}."}
            request = {"messages": [{"role": "system", "content": f"at {turn}"}, *messages]}
            record = {"request": request, "response": {"choices": [{"message": answer}]}}
            if number % 2:
                record["session_id"] = f"session-{number}"
            lines.append(record)
            messages.append(answer)
    tasks, _ = imported(tmp_path, write_lines(tmp_path / "log.jsonl", lines[::-1]))
    assert len(tasks) == 160
    training, validation = split(tasks, 0.3, 42)
    chats = [{task.main_query.split(",")[0] for task in side} for side in (training, validation)]
    assert not chats[0] & chats[1] and len(chats[0] | chats[1]) == 40
    assert 0.1 < len(chats[1]) / 40 < 0.5
    again = split(tasks[:80], 0.3, 42)
    assert [t.task_id for t in again[1]] == [
        t.task_id for t in validation if t in tasks[:80]
    ]  # later tasks move no earlier one


def test_with_one_conversation_there_are_training_tasks(tmp_path):
    tasks = [Task(main_query="x", metadata={"conversation": "c"})]
    assert [split(tasks, share, 1)[0] for share in (0.0, 0.5, 1.0)] == [tasks] * 3


def test_filters_drop_tasks_and_are_named_in_the_report(tmp_path):
    (tmp_path / "mine.py").write_text(
        "class NotAbout:\n"
        "    def __init__(self, params):\n        self.word = params.word\n"
        "    def __call__(self, task):\n        return self.word not in task.main_query\n"
    )
    texts = ["Short", "What is the age of Rome?", "Rome and SPAM and more", "Cats or dogs, which?"]
    path = write_lines(tmp_path / "log.jsonl", [chat_request(text) for text in texts])
    filters = [
        {"type": "length", "params": {"min_query": 8}},
        {"type": "pattern", "params": {"drop": ["SPAM"]}},
        {"type": f"{tmp_path}/mine.py->NotAbout", "params": {"word": "Cats"}},
        {"type": "length", "enabled": False, "params": {"min_query": 999}},
    ]
    tasks, report = imported(tmp_path, path, filters=filters)
    assert queries(tasks) == ["What is the age of Rome?"]
    assert [report.left_out[name] for name in ("length", "pattern")] == [1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": [{"type": "bad.py->keep"}]}, "keep failed for task .*: KeyError: 'nope'"),
        ({"filters": [{"type": "bad.py->Made"}]}, "Made cannot be made: RuntimeError: no"),
        ({"redaction": ["bad.py->redact"]}, "redact failed: ValueError$"),
    ],
)
def test_what_the_users_code_raises_is_one_line(settings, message, tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text(
        "def keep(task):\n    return task.metadata['nope']\n"
        "def redact(text):\n    raise ValueError(text)\n"
        "class Made:\n    def __init__(self, params):\n        raise RuntimeError('no')\n"
    )
    monkeypatch.chdir(tmp_path)
    path = write_lines(tmp_path / "log.jsonl", [chat_request("One?")])
    with pytest.raises(DataError, match=message):
        imported(tmp_path, path, **settings)


def test_packed_files_and_folders_are_sources(tmp_path):
    logs = tmp_path / "logs" / "2026"
    logs.mkdir(parents=True)
    with gzip.open(logs / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps(chat_request("Packed?")) + "\n")
    attributes = {
        "gen_ai.input.messages": json.dumps([parts("user", "Span?")]),
        "gen_ai.output.messages": json.dumps([parts("assistant", "Yes")]),
    }
    (logs / "b.json").write_text(json.dumps(otlp(span(1, attributes)), indent=1))
    (logs / "settings.json").write_text('{"level": "info"}')
    (logs / "notes.txt").write_text("no log")
    tasks, _ = imported(tmp_path, tmp_path / "logs")
    assert sorted(queries(tasks)) == ["Packed?", "Span?"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder has no log"):
        imported(tmp_path, tmp_path / "empty")


def test_a_packed_file_that_is_still_written_is_read_as_far_as_it_goes(tmp_path):
    lines = [json.dumps(chat_request(f"Is {number} prime?")) + "\n" for number in range(100)]
    whole = gzip.compress("".join(lines).encode())
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(whole[:-40])
    tasks, report = imported(tmp_path, path)
    assert 50 < len(tasks) < 100 and report.left_out["packed files without an end"] == 1
    path.write_bytes(whole)
    tasks, report = imported(tmp_path, path)
    assert len(tasks) == 100 and not report.left_out


def test_what_a_file_is_its_content_tells_and_not_its_name(tmp_path):
    packed = tmp_path / "log.jsonl"
    packed.write_bytes(gzip.compress(json.dumps(chat_request("Packed?")).encode() + b"\n"))
    assert queries(imported(tmp_path, packed)[0]) == ["Packed?"]
    damaged = tmp_path / "damaged.json.gz"
    damaged.write_bytes(gzip.compress(b"{\n" * 9)[:12] + b"\xff" * 40)
    with pytest.raises(DataError, match=r"damaged.json.gz: cannot be read"):
        imported(tmp_path, damaged)
    wide = tmp_path / "wide.jsonl"
    wide.write_text(json.dumps(chat_request("Wide?")), encoding="utf-16")
    with pytest.raises(DataError, match="is UTF-16, expected UTF-8"):
        imported(tmp_path, wide)


def test_lines_that_are_too_long_are_left_out_without_being_read(tmp_path, monkeypatch):
    monkeypatch.setattr("ajet.tracing.log_file.MAX_LINE", 1000)
    long = chat_request("x" * 5000)
    path = write_lines(tmp_path / "log.jsonl", [chat_request("a?"), long, chat_request("b?")])
    tasks, report = imported(tmp_path, path)
    assert queries(tasks) == ["a?", "b?"] and report.left_out["lines over 64 MiB"] == 1


def run_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ajet.cli", "import-traces", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_the_command_does_only_that(tmp_path, monkeypatch):
    write_lines(tmp_path / "log.jsonl", [chat_request("One? I am bob@example.com")])
    (tmp_path / "traces.yaml").write_text(
        "ajet:\n  task_reader:\n    type: tracing\n    tracing:\n      sources: [log.jsonl]\n"
        "      train_output_path: from_yaml.jsonl\n"
    )
    by_file = run_command("--conf", "traces.yaml", cwd=tmp_path)
    assert by_file.returncode == 0, by_file.stderr
    assert "from_yaml.jsonl: 1 new tasks of 1 calls, 1 in all" in by_file.stdout
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    by_name = runner.invoke(app, ["import-traces", "log.jsonl", "-o", "by_name.jsonl"])
    assert by_name.exit_code == 0, by_name.output
    [one], [other] = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("by_name.jsonl", "from_yaml.jsonl")
    )
    assert Path(other["metadata"].pop("source")).name == one["metadata"].pop("source")
    assert one == other and one["main_query"] == "One? I am [email]"
    nothing = runner.invoke(app, ["import-traces"]).exception
    assert isinstance(nothing, ConfigError) and "no logs are named" in str(nothing)
    missing = runner.invoke(app, ["import-traces", "none.jsonl"]).exception
    assert isinstance(missing, DataError) and "there is no such file" in str(missing)
