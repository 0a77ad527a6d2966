"""`ajet init NAME`: writes a small project that trains at once. Its files are in ajet/templates."""

from __future__ import annotations

import re
import shlex
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template as TextTemplate
from typing import Annotated

import typer

from ajet.errors import ConfigError

TEMPLATES = files("ajet") / "templates"


class Client(StrEnum):
    OPENAI = "openai"
    AGENTSCOPE = "agentscope"
    LANGCHAIN = "langchain"
    HTTP = "http"


class Template(StrEnum):
    MATH = "math"
    MULTI_AGENT = "multi_agent"
    ENVIRONMENT = "environment"
    JUDGE = "judge"


EXTRAS = {
    Client.OPENAI: "local",
    Client.AGENTSCOPE: "local,agentscope",
    Client.LANGCHAIN: "local,langchain",
    Client.HTTP: "local,server",
}
"""Client -> the extras of AgentJet that the project needs."""

AGENT_FILES = {
    Client.OPENAI: "the agent, written against the OpenAI SDK",
    Client.AGENTSCOPE: "the agent, AgentScope's `ReActAgent`",
    Client.LANGCHAIN: "the agent, written with LangChain",
    Client.HTTP: "the agent, as plain HTTP requests",
}

OWN_FILES = {
    Template.ENVIRONMENT: ("environment.py", "the environment that the agent acts on"),
    Template.JUDGE: ("judge.py", "the judge, which gives the reward"),
}
"""Template -> a file that only this template has, and what is in it."""

SUMMARIES = {
    Template.MATH: "An agent that solves word problems with a calculator.",
    Template.MULTI_AGENT: (
        "Two agents on one word problem: a solver, which is trained, and a checker, which is not."
    ),
    Template.ENVIRONMENT: "An agent that solves word problems in an environment with a calculator.",
    Template.JUDGE: "An agent that solves word problems with a calculator, and a judge of its own.",
}

REWARDS = {
    Template.MATH: (
        "The judge compares numbers. To give the reward yourself, return\n"
        "   `WorkflowOutput(reward=...)` from `workflow.py`."
    ),
    Template.MULTI_AGENT: (
        "Give each agent its reward at the end of `workflow.py`, and name those to train in\n"
        "   `trainable_targets`."
    ),
    Template.ENVIRONMENT: "Write your environment's `reset` and `step` in `environment.py`.",
    Template.JUDGE: "Write what makes an answer good in `judge.py`.",
}

_MATH_JUDGE = "ajet.task_judge.math_answer_as_judge->MathAnswerAsJudge"
_JUDGES = {Template.MATH: _MATH_JUDGE, Template.JUDGE: "judge.py->AnswerJudge"}
_WORKFLOWS = {Template.MULTI_AGENT: "SolverAndChecker"}


def init(
    name: Annotated[
        str, typer.Argument(help="The new folder, and the name of the project.", show_default=False)
    ],
    client: Annotated[
        Client, typer.Option(help="What the agent calls the model with.")
    ] = Client.OPENAI,
    template: Annotated[Template, typer.Option(help="What the project shows.")] = Template.MATH,
) -> None:
    """Write a small project that trains on this machine's CPU: agent, tasks, settings, a test.

    Example: ajet init my_agent && cd my_agent && ajet --conf my_agent.yaml
    """
    folder = Path(name).expanduser()
    number = write_project(folder, client, template)
    typer.echo(f"wrote {number} files into {folder}; README.md explains them")
    conf = f"{_name_of(folder)}.yaml"
    enter = f"cd {shlex.quote(str(folder))}"
    typer.echo(f"next: {enter} && ajet check --conf {conf} && ajet --conf {conf}")


def _name_of(folder: Path) -> str:
    """The project's name: that of the folder, also where it is given as `.`."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def write_project(folder: Path, client: Client, template: Template) -> int:
    """Write the project into a new folder, whose name becomes the project's.

    Returns:
        The number of files.

    Raises:
        ConfigError: the folder exists or cannot be written, or its name has other characters
            than letters, digits, "_" and "-".
    """
    name = _name_of(folder)
    if not re.fullmatch(r"[A-Za-z0-9_][\w-]*", name, re.ASCII):
        raise ConfigError(
            f'ajet init: got "{name}", expected a name of letters, digits, "_" and "-"'
        )
    texts = project_files(name, client, template)
    try:
        folder.mkdir(parents=True)
        for path, text in texts.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8", newline="\n")
    except FileExistsError:
        raise ConfigError(
            f"ajet init: {folder} exists; give a name that is not taken, or remove it first"
        ) from None
    except OSError as error:
        raise ConfigError(f"ajet init: cannot write {folder}: {error.strerror or error}") from error
    return len(texts)


def project_files(name: str, client: Client, template: Template) -> dict[str, str]:
    """The project's files: path in its folder -> text."""
    templates = {
        f"{name}.yaml": "conf.yaml",
        "README.md": "README.md",
        "workflow.py": f"workflows/{template}.py",
        "agent.py": f"clients/{client}.py",
        "calculator.py": "calculator.py",
        "test_workflow.py": "test_workflow.py",
    }
    if template in OWN_FILES:
        own, _ = OWN_FILES[template]
        templates[own] = f"workflows/{template}_{own}"
    values = _values(name, client, template)
    texts = {
        path: TextTemplate(_read(f"{source}.tmpl")).substitute(values)
        for path, source in templates.items()
    }
    splits = ("tasks/train.jsonl", "tasks/validation.jsonl")
    return {**texts, **{path: _read(path) for path in splits}}


def _read(path: str) -> str:
    return TEMPLATES.joinpath(*path.split("/")).read_text("utf-8")


def _values(name: str, client: Client, template: Template) -> dict[str, str]:
    """What stands for each `$word` of the templates."""
    judge, is_multi = _JUDGES.get(template), template == Template.MULTI_AGENT
    # The checker repeats the calls of the solver, and accepts an answer that it gets as well.
    right = '[CALL, "Answer: 66"]' + (" * 2" if is_multi else "")
    wrong = '["Answer: 65"]' + (" * 2" if is_multi else "")
    listed = {
        f"{name}.yaml": "the settings: model, tasks, reward, training",
        "workflow.py": "what is run for every task",
        "agent.py": AGENT_FILES[client],
        "calculator.py": "its tool and its system prompt",
        **dict(filter(None, [OWN_FILES.get(template)])),
        "tasks/": "tasks to train on, and others to evaluate on",
        "test_workflow.py": "a test that needs no model",
    }
    return {
        "name": name,
        "workflow": _WORKFLOWS.get(template, "CalculatorWorkflow"),
        "environment": (
            "  environment:\n    type: environment.py->CalculatorEnvironment\n"
            if template == Template.ENVIRONMENT
            else ""
        ),
        "judge": f"  task_judge:\n    judge_protocol: {judge}\n" if judge else "",
        "right_answers": right,
        "wrong_answers": wrong,
        "wrong_reward": "0.1" if template == Template.JUDGE else "0.0",
        "trained": "[True, True, False, False]" if is_multi else "[True, True]",
        "summary": SUMMARIES[template],
        "extras": EXTRAS[client],
        "files": "\n".join(f"| `{path}` | {text} |" for path, text in listed.items()),
        "reward": REWARDS[template],
    }
