"""What `ajet export` writes of a run of the local backbone, and `ajet serve`, in the real vLLM."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from ajet.config.loading.load import load_config
from ajet.training.model_folder import chat_format_of, model_folder
from tests.end_to_end.command import COMMAND, OPENAI_AGENT, ROOT, SMALL, command, train
from tests.end_to_end.run_folders import NAME, checkpoints_of
from tests.vllm.exported import BOUND, largest_difference_in_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

KEY = "sk-of-the-test"
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "AJET_SERVE_KEY": KEY}
QUESTION = [{"role": "user", "content": "What is 12 + 34?"}]
SERVE_S = 400
"""Longest time until both models are served: each vLLM takes most of a minute to start."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    short = ("trainer_common.total_training_steps=2", "trainer_common.val_before_train=false")
    # The learning rate: after two steps the models must differ by more than rounding.
    ended = train(folder, OPENAI_AGENT, *SMALL, *short, "trainer_common.optim.lr=3e-3")
    assert ended.code == 0, ended.stderr
    return folder / NAME


def test_vllm_computes_what_transformers_computes(run: Path, tmp_path: Path) -> None:
    made = command("export", str(run), "--to", str(tmp_path / "model"))
    assert made.code == 0, made.stderr
    assert largest_difference_in_vllm(tmp_path / "model", tmp_path / "vllm.log") < BOUND


@contextmanager
def served(run: Path) -> Iterator[tuple[openai.OpenAI, list[str]]]:
    """A client of `ajet serve --engine vllm`, and the names of the models."""
    process = subprocess.Popen(
        [*COMMAND, "serve", str(run), "--engine", "vllm"],
        cwd=ROOT,
        env=ENV,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        facts: dict[str, str] = {}
        deadline = time.monotonic() + SERVE_S
        while "models" not in facts:
            assert time.monotonic() < deadline
            line = process.stdout.readline()
            assert line, f"it ended: {process.wait()}"
            name, _, value = line.strip().partition("  ")
            facts[name] = value.strip()
        client = openai.OpenAI(base_url=facts["URL"], api_key=KEY, max_retries=0)
        yield client, facts["models"].split(", ")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def first_logprob(folder: Path) -> float:
    """The logprob of the likeliest first token of the answer, by transformers."""
    config = load_config(ROOT / "tutorial/example_math_agent/math_agent_cpu.yaml").ajet
    chat_format = chat_format_of(config.model, model_folder(config.model.path))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([chat_format.render(QUESTION, None)])
    with torch.no_grad():
        return float(model(input_ids=ids).logits[0, -1].log_softmax(-1).max())


def test_both_models_are_served_by_vllm_under_their_names(run: Path) -> None:
    folders = [checkpoints_of(run)[-1], ROOT / "ajet/tiny_model/calculator"]
    expected = [first_logprob(folder) for folder in folders]
    assert abs(expected[0] - expected[1]) > 10 * BOUND, "the run changed the model"
    with served(run) as (client, names):
        assert names[0] == f"{NAME}@2"
        assert [model.id for model in client.models.list()] == names
        for name, logprob in zip(names, expected, strict=True):
            answer = client.chat.completions.create(
                model=name,
                messages=QUESTION,  # type: ignore[arg-type]
                temperature=0,
                max_tokens=4,
                logprobs=True,
            )
            assert answer.model == name
            assert answer.choices[0].logprobs is not None
            assert abs(answer.choices[0].logprobs.content[0].logprob - logprob) < BOUND  # type: ignore[index]


def test_chat_talks_to_vllm(run: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "chat", str(run), "--engine", "vllm", "--no-base"],
        input="What is 12 + 34?\n/new\nWhat is 1 + 1?\n/end\n",
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=SERVE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"models: {NAME}@2" in done.stdout
    assert "a new conversation with" in done.stdout
    assert "(no text)" not in done.stdout
    assert "error" not in done.stderr
