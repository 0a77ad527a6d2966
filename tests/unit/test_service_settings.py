"""`ajet.task_runner.services`: a list of sections, as well checked as any other section."""

from __future__ import annotations

import pytest

from ajet.config.loading.load import load_config, to_yaml
from ajet.config.reference import reference
from tests.unit.config_files import MINIMAL, load, problems

SERVICES = """\
  task_runner:
    services:
      - name: game
        command: python server.py --title 'Frozen Lake'
        env: {COLOUR: red}
        ready_port: 8000
"""


def problems_with(tmp_path, text: str, *overrides: str) -> list[str]:
    return problems(tmp_path, f"{MINIMAL}  task_runner:\n    services:\n{text}", *overrides)


def test_a_service_has_a_command_as_a_shell_would_split_it(tmp_path):
    [service] = load(tmp_path, MINIMAL + SERVICES).ajet.task_runner.services
    assert service.command == ["python", "server.py", "--title", "Frozen Lake"]
    assert service.env == {"COLOUR": "red"}
    assert (service.ready_port, service.ready_url, service.start_timeout_s) == (8000, None, 60.0)
    services = "task_runner.services=[{name: a, command: [python, 'a b']}]"
    [service] = load(tmp_path, MINIMAL, services).ajet.task_runner.services
    assert service.command == ["python", "a b"]


def test_services_are_written_down_and_read_again(tmp_path):
    config = load(tmp_path, MINIMAL + SERVICES)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config


def test_problems_name_the_entry_the_key_and_the_line(tmp_path):
    entries = """\
      - name: one
        comand: ls
      - command: [ls]
        ready_port: 70000
      - nonsense
      - name: two
        command: [ls, 3]
        env: {PORT: 80}
"""
    assert problems_with(tmp_path, entries) == [
        "math.yaml:10: ajet.task_runner.services[0].command: missing; "
        "expected a list of texts, or one text, split as in a shell",
        'math.yaml:11: ajet.task_runner.services[0].comand: unknown key; did you mean "command"?',
        "math.yaml:12: ajet.task_runner.services[1].name: missing; "
        "expected a name of letters, digits, _ and -",
        "math.yaml:13: ajet.task_runner.services[1].ready_port: got 70000, "
        "expected an integer at least 1 and at most 65535, or null",
        'math.yaml:14: ajet.task_runner.services[2]: got "nonsense", '
        "expected a section with name, command",
        'math.yaml:16: ajet.task_runner.services[3].command: got ["ls", 3], '
        "expected a list of texts, or one text, split as in a shell",
        'math.yaml:17: ajet.task_runner.services[3].env: got {"PORT": 80}, '
        "expected a mapping, each value a text",
    ]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("name: a/b, command: ls", '.name: got "a/b", expected a name of letters'),
        ("name: a, command: []", ".command: expected a program"),
        ("name: a, command: ''", ".command: expected a program"),
        ('name: a, command: "ls \'"', ".command: got 'ls '', which has no closing quotation"),
        ("name: a, command: ls, cwd: nowhere", '.cwd: "nowhere" not found; looked for'),
        ("name: a, command: ls, ready_url: localhost", '.ready_url: got "localhost", expected an'),
        (
            "name: a, command: ls, ready_url: http://localhost, ready_port: 80",
            ": has ready_url and ready_port; expected one of them",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused(tmp_path, keys, problem):
    [line] = problems_with(tmp_path, f"      - {{{keys}}}\n")
    assert f"ajet.task_runner.services[0]{problem}" in line


def test_a_mapping_is_no_list(tmp_path):
    [line] = problems_with(tmp_path, "      name: a\n")
    assert line.endswith(
        'services: got {"name": "a"}, expected a list, each entry a section with name, command'
    )


def test_two_services_have_two_names(tmp_path):
    one = "      - {name: a, command: ls}\n"
    [line] = problems_with(tmp_path, one + one)
    assert line.endswith('ajet.task_runner: two services have the name "a"')


def test_the_reference_page_has_the_keys_of_an_entry():
    page = reference()
    row = "| `services` | `[]` | a list, each entry a section with name, command | "
    assert row in page
    section = page.partition("## `ajet.task_runner.services[]`\n")[2].partition("\n## ")[0]
    assert "| `command` | required | a list of texts, or one text, split as in a shell |" in section
    assert "| `ready_port` | `null` | an integer at least 1 and at most 65535, or null |" in section
