"""`ajet init`: what it writes.

1. Every project has the same files, and one of its own where the template needs one.
2. Python files compile, and the YAML loads.
3. No task stands in both splits; the tasks are the tutorial's, whose words the demo model knows.
4. A folder that exists is left alone; a name that cannot name a project is refused.
5. The last line printed says the three commands to type next.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ajet.cli import app
from ajet.commands.init import Client, Template, project_files, write_project
from ajet.config.loading.load import load_config
from ajet.errors import ConfigError
from tutorial.example_math_agent import calculator as tutorial_calculator

ROOT = Path(__file__).parents[2]
TUTORIAL_DATA = ROOT / "tutorial" / "example_math_agent" / "data"
COMBINATIONS = [(client, template) for client in Client for template in Template]
COMMON = {
    "README.md",
    "agent.py",
    "calculator.py",
    "demo.yaml",
    "tasks/train.jsonl",
    "tasks/validation.jsonl",
    "test_workflow.py",
    "workflow.py",
}


@pytest.mark.parametrize(("client", "template"), COMBINATIONS)
def test_files(client: Client, template: Template, tmp_path: Path) -> None:
    texts = project_files("demo", client, template)
    own = {Template.JUDGE: {"judge.py"}, Template.ENVIRONMENT: {"environment.py"}}
    assert set(texts) == COMMON | own.get(template, set())
    for path, text in texts.items():
        assert "$" not in text, path
        if "/" not in path and path != "README.md":
            assert f"| `{path}` |" in texts["README.md"]
        if path.endswith(".py"):
            compile(text, path, "exec")
    write_project(tmp_path / "demo", client, template)
    config = load_config(tmp_path / "demo" / "demo.yaml")
    assert config.ajet.rollout.user_workflow.startswith(str(tmp_path / "demo" / "workflow.py"))


def test_tasks_of_the_splits_do_not_overlap() -> None:
    texts = project_files("demo", Client.OPENAI, Template.MATH)
    queries = {}
    for split in ("train", "validation"):
        text = texts[f"tasks/{split}.jsonl"]
        assert (TUTORIAL_DATA / f"{split}.jsonl").read_text().startswith(text)
        queries[split] = [json.loads(line)["main_query"] for line in text.splitlines()]
        assert len(set(queries[split])) == len(queries[split])
    assert not set(queries["train"]) & set(queries["validation"])


def test_the_tool_and_the_prompt_are_those_that_the_model_knows() -> None:
    names: dict[str, object] = {}
    exec(project_files("demo", Client.OPENAI, Template.MATH)["calculator.py"], names)
    assert names["SYSTEM_PROMPT"] == tutorial_calculator.SYSTEM_PROMPT
    assert json.dumps(names["CALCULATOR_TOOL"]) == json.dumps(tutorial_calculator.CALCULATOR_TOOL)
    evaluate = names["evaluate"]
    for expression in ("19 - 4", "4-19", " 7*8 ", "", "1 + 2 + 3", "8 / 2"):
        assert evaluate(expression) == tutorial_calculator.evaluate(expression)  # type: ignore[operator]


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    with pytest.raises(ConfigError, match=r"demo exists; give a name that is not taken"):
        write_project(tmp_path / "demo", Client.OPENAI, Template.MATH)
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.parametrize("name", ["my agent", "a.b", "-x", "ä"])
def test_a_name_with_other_characters_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a name of letters"):
        write_project(tmp_path / name, Client.OPENAI, Template.MATH)
    assert list(tmp_path.iterdir()) == []


def test_the_last_line_says_what_to_type_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["init", "demo", "--client", "http"])
    assert result.exit_code == 0
    last = result.output.splitlines()[-1]
    assert last == "next: cd demo && ajet check --conf demo.yaml && ajet --conf demo.yaml"


def test_a_folder_with_blanks_above_the_project_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["init", "my runs/demo"]).output
    assert "next: cd 'my runs/demo' && ajet check --conf demo.yaml && ajet --conf" in shown


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write .*demo: Not a directory"):
        write_project(tmp_path / "file" / "demo", Client.OPENAI, Template.MATH)


def test_the_current_folder_is_named_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path / "demo")
    with pytest.raises(ConfigError, match=r"ajet init: \. exists"):
        write_project(Path("."), Client.OPENAI, Template.MATH)
