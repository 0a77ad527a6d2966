"""For tests of workflows and judges: one episode with scripted answers, and no model.

episode = run_scripted("my_agent.yaml", ["Answer: 4"], task=Task(main_query="2 + 2"))
assert episode.reward == 1.0
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ajet.config.loading.load import load_config
from ajet.context_tracker.chat_format import ChatFormat
from ajet.diagnostics.check_episode import run_with_engine
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import DataError
from ajet.schema.episode import Episode
from ajet.schema.task import Task
from ajet.task_reader.read_tasks import TrainingData
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of, model_folder

__all__ = ["run_scripted"]


def run_scripted(
    conf: str | Path,
    answers: Sequence[str],
    *,
    task: Task | None = None,
    overrides: Sequence[str] = (),
    max_model_len: int = 4096,
) -> Episode:
    """Run one episode of a YAML's workflow, environment and judge, with these answers.

    Everything is what a run uses, except the model: its tokenizer and chat format are loaded, and
    the answers come from a `ScriptedEngine`. Torch is not needed.

    Args:
        conf: the YAML file.
        answers: what the model writes, one text per call; a tool call in the form of the chat
            format. A call without an answer fails.
        task: the episode's task; None: the first training task of the YAML.
        overrides: settings that replace those of the YAML: `"rollout.multi_turn.max_steps=2"`.
        max_model_len: tokens of context, to see what happens when it is full.

    Raises:
        AjetError: the YAML, the data or the user's classes are wrong. What goes wrong inside of
            the episode is not raised; it is in `episode.failure`.
    """
    config = load_config(Path(conf), list(overrides))
    chat_format = chat_format_of(config.ajet.model, model_folder(config.ajet.model.path))
    engine = ScriptedEngine(
        [_ids(chat_format, answer) for answer in answers],
        max_model_len=max_model_len,
        tokenizer=chat_format.tokenizer,
    )
    code = UserCode.load(config)
    if task is None:
        tasks = TrainingData.read(config.ajet).batches.tasks
        if not tasks:
            raise DataError(f"{conf} has no training task; pass one: task=Task(main_query=...)")
        task = tasks[0]
    return run_with_engine(config, chat_format, code, task, engine)


def _ids(chat_format: ChatFormat, text: str) -> list[int]:
    """The tokens of an answer, with the token that ends a turn."""
    tokens: list[int] = chat_format.tokenizer.encode(text, add_special_tokens=False)
    return [*tokens, *chat_format.stop_token_ids[:1]]
