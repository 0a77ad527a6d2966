"""Whole runs that train an adapter, through the real command.

1. A run that is resumed continues bit for bit; `ajet replay` trains its steps again, with equality.
2. `ajet export` writes the merged model or the adapter; both compute what the engine computed.
3. `ajet eval` and `ajet serve` load a checkpoint that has only the adapter.
4. `ajet check` finds wrong layers, with the embedded engine and with vLLM.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ajet.export.export import export
from ajet.replay.replay import replay
from ajet.serving.models import open_models
from tests.end_to_end.command import OPENAI_AGENT, SMALL, ajet, command
from tests.end_to_end.run_folders import NAME, checkpoints_of, metrics_of

MODEL = Path("ajet/tiny_model/calculator")
LORA = (
    "lora.lora_rank=4",
    "lora.lora_alpha=10",
    "trainer_common.optim.lr=3e-3",
    "trainer_common.use_kl_loss=true",
    f"rollout.user_workflow={OPENAI_AGENT}",
    *SMALL,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    done = ajet("--backbone=local", f"--exp-dir={folder}", *LORA)
    assert done.code == 0, done.stderr
    return folder / NAME


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(5, 60)[None]).logits
    return found


def test_a_resumed_run_continues_bit_for_bit(run: Path, tmp_path: Path) -> None:
    lines = metrics_of(run)
    assert lines[-1]["policy/kl"] > 1e-4
    assert all(line.get("policy/logprob_diff_max", 0) < 1e-4 for line in lines)
    copy = tmp_path / NAME
    shutil.copytree(run, copy)
    last = checkpoints_of(copy)[-1]
    expected = (last / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(last)
    record = json.loads((copy / "run.json").read_text())
    record["processes"][-1]["outcome"] = "killed"
    (copy / "run.json").write_text(json.dumps(record))
    done = ajet("--backbone=local", f"--exp-dir={tmp_path}", *LORA, "--resume")
    assert done.code == 0, done.stderr
    assert "resumed after step 2 of 4" in done.stdout
    assert (last / "adapter_model.safetensors").read_bytes() == expected


def test_a_step_is_trained_again_with_equality(run: Path) -> None:
    for step in (1, 3):
        training = replay(run, step=step, trust=True).stages[3]
        assert training.outcome == "equal", training


@pytest.mark.parametrize("lora", ["merge", "keep"])
def test_the_export_computes_what_the_engine_did(run: Path, tmp_path: Path, lora: str) -> None:
    made = export(run, step="2", to=tmp_path / "out", dtype=None, lora=lora)  # type: ignore[arg-type]
    assert made.difference < 1e-4
    assert made.recorded is not None
    assert made.recorded < 1e-3
    base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    untuned = logits(base)
    if lora == "keep":
        loaded = PeftModel.from_pretrained(base, str(tmp_path / "out"))
        assert "LoRA adapter of rank 4" in (tmp_path / "out" / "README.md").read_text()
    else:
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    other = export(run, step="4", to=tmp_path / "other", dtype="bfloat16", lora="merge")
    assert other.dtype == "bfloat16"
    assert (logits(loaded) - untuned).abs().max() > 0.1


def test_an_adapter_is_evaluated_and_served(run: Path, tmp_path: Path) -> None:
    options = ("--num-tasks=4", "--json", f"--out={tmp_path / 'eval'}")
    done = command("eval", f"{run}@4", *options)
    assert done.code == 0, done.stderr
    results = json.loads(done.stdout)
    base = json.loads(
        command("eval", f"{run}@base", *options[:2], f"--out={tmp_path / 'b'}").stdout
    )
    assert results != base
    with open_models(run, step=None, with_base=True, engine=None, overrides=[]) as models:
        assert [model.name for model in models] == [f"{NAME}@4", "calculator"]


@pytest.mark.parametrize("engine", ["embedded", "vllm"])
def test_check_finds_wrong_layers(engine: str) -> None:
    wrong = ("lora.lora_rank=4", "lora.target_modules=[q_proj,query]", f"rollout.name={engine}")
    conf = "--conf=tutorial/example_math_agent/math_agent_cpu.yaml"
    done = command("check", conf, "--backbone=local", *wrong)
    assert done.code != 0
    assert "ajet.lora.target_modules: no layer is named query" in " ".join(done.stdout.split())
