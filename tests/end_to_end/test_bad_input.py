"""What is wrong in a configuration, in data or in a model's folder is told in a line.

1. The line names the file, the line or key, what was got and what was expected.
2. Exit code 2 for the configuration, found before anything is made; 1 for the rest.
3. No traceback.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.command import CONF, ROOT, Ended, ajet

DATA = CONF.parent / "data" / "train.jsonl"
READER = "task_reader.jsonl_dataset_file"
WORKFLOW = "ajet.rollout.user_workflow"


def refused(exp_dir: Path, *args: str, conf: Path = CONF) -> Ended:
    """A run that does not come to be."""
    ended = ajet("--exp-dir", str(exp_dir), *args, conf=conf)
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.stdout == ""
    return ended


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("rollout.temprature=0.9", 'rollout.temprature: unknown key; did you mean "temperature"?'),
        ("rollout.temperature=hot", 'rollout.temperature: got "hot", expected a number at least 0'),
        ("data.train_batch_size=0", "data.train_batch_size: got 0, expected an integer above 0"),
        ("model.path=/no/model", 'model.path: "/no/model" not found; looked for /no/model'),
        (
            f"{READER}.training.file_path=/no/data.jsonl",
            f'{READER}.training.file_path: "/no/data.jsonl" not found; looked for /no/data.jsonl',
        ),
        (
            "rollout.user_workflow=MathAgent",
            'rollout.user_workflow: got "MathAgent", expected "path/to/file.py->Class" or '
            '"package.module->Class"',
        ),
        (
            "rollout.user_workflow=/no/agent.py->MathAgent",
            'rollout.user_workflow: "/no/agent.py" not found; looked for /no/agent.py',
        ),
    ],
)
def test_a_wrong_setting(tmp_path: Path, setting: str, told: str) -> None:
    ended = refused(tmp_path / "runs", setting)
    assert ended.stderr == f"error: command line: ajet.{told}\n"
    assert ended.code == 2
    assert not (tmp_path / "runs").exists()


def test_a_wrong_key_of_the_file_has_its_line(tmp_path: Path) -> None:
    conf = tmp_path / "mine.yaml"
    text = CONF.read_text()
    conf.write_text(text.replace("num_repeat:", "num_repeats:"))
    line = 1 + text[: text.index("num_repeat:")].count("\n")
    ended = refused(tmp_path / "runs", conf=conf)
    key = "ajet.rollout.num_repeats"
    assert ended.errors == [f'{conf}:{line}: {key}: unknown key; did you mean "num_repeat"?']
    assert ended.code == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, f'no class "MathAgnt" in {ROOT}/{{agent}}; did you mean "MathAgent"?'),
        ("class MathAgnt\n", "cannot import {agent}: {agent}:1: SyntaxError: expected ':'"),
        (
            "import no_such_library\n",
            "cannot import {agent}: {agent}:1: ModuleNotFoundError: "
            "No module named 'no_such_library'",
        ),
        ("class MathAgnt:\n    pass\n", "{agent}->MathAgnt is not a subclass of Workflow"),
    ],
)
def test_a_wrong_workflow(tmp_path: Path, text: str | None, told: str) -> None:
    agent = Path("tutorial/example_math_agent/math_agent_openai.py")
    if text is not None:
        agent = tmp_path / "agent.py"
        agent.write_text(text)
    ended = refused(tmp_path / "runs", f"rollout.user_workflow={agent}->MathAgnt")
    assert ended.errors == [f"{WORKFLOW}: {told.format(agent=agent)}"]
    assert ended.code == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '{"main_query": "1 + 1?"}\n\n{"main_query": "1 +\n',
            "{file}:3: not valid JSON: Invalid control character at (column 20)",
        ),
        ("\n", "{file}: the file has no task; expected one JSON object per line"),
    ],
)
def test_wrong_data(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(text)
    ended = refused(tmp_path / "runs", f"{READER}.training.file_path={file}")
    assert ended.errors == [told.format(file=file)]
    assert ended.code == 1


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    ended = refused(tmp_path / "runs", f"model.path={tmp_path}")
    assert ended.errors == [
        f"{tmp_path}: found no tokenizer.json; expected a model folder in Hugging Face format "
        "with a fast tokenizer"
    ]
    assert ended.code == 1


def test_a_model_that_the_hub_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = refused(tmp_path / "runs", "model.path=nobody/no-model")
    (told,) = ended.errors
    assert told.startswith(
        'ajet.model.path: there is no folder "nobody/no-model", and the hub does not give a model '
        "of that name: "
    )
    assert ended.code == 1


def test_nothing_to_resume(tmp_path: Path) -> None:
    ended = refused(tmp_path, "--resume")
    assert ended.errors == [f'--resume: there is no run "{CONF.stem}" in {tmp_path}']
    assert ended.code == 2
