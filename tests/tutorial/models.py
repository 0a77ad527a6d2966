"""The tiny models of the examples, which a checkout may lack: `make tiny-models` builds them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ajet.testing import run_scripted

ROOT = Path(__file__).parents[2]


def run_example(conf: Path, answers: list[str], *, task: Any, overrides: Any = ()) -> Any:
    """An episode with scripted answers; without its model, with the tokenizer of another one."""
    if not _model_of(conf).exists():
        overrides = ("model.path=ajet:calculator", *overrides)
    return run_scripted(conf, answers, task=task, overrides=overrides)


def assert_trained_on(conf: Path, messages: list[Any], episode: Any, tools: Any = ()) -> None:
    """The episode is one sample, with the tokens and the mask of this demonstration."""
    if not _model_of(conf).exists():
        pytest.skip("there is no model: make tiny-models")
    from transformers import AutoTokenizer

    from tutorial.tiny_models.conversation import Conversation, tokenize

    tokenizer: Any = AutoTokenizer.from_pretrained(_model_of(conf).parent)
    (demonstration,) = tokenize(tokenizer, [Conversation(messages=messages, tools=tools)])
    (sample,) = episode.samples
    assert list(sample.ids) == demonstration.token_ids
    assert list(sample.loss_mask) == demonstration.trained


def _model_of(conf: Path) -> Path:
    path = yaml.safe_load(conf.read_text())["ajet"]["model"]["path"]
    return ROOT / str(path) / "RECIPE.json"
