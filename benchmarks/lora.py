"""What LoRA costs and saves: peak memory and seconds of an update, with and without an adapter.

Each row is a process of its own on a random model of 61 million parameters, one thread, float32:
four samples of 256 tokens, one update per round. `weights_mb` is the memory of the loaded model,
`peak_mb` the highest of the whole process while it trains and merges, `checkpoint_mb` the size of a
checkpoint.

    python benchmarks/lora.py --json [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from ajet.backbone.local.adapter import Adapter
from ajet.backbone.local.checkpoint import save_checkpoint
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.sections.model import LoraConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.schema.episode import Sample
from ajet.training.checkpoints import Position

VOCABULARY = 4096
CASES = [(rank, with_kl) for with_kl in (False, True) for rank in (0, 8, 64)]


def model() -> Qwen3ForCausalLM:
    """The same random weights in every process."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=768,
        intermediate_size=2304,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=4,
        head_dim=64,
        tie_word_embeddings=False,
    )
    return Qwen3ForCausalLM(config).eval()


def samples() -> list[Sample]:
    """Four episodes that share a prompt of 128 tokens."""
    rng = np.random.default_rng(0)
    prompt = rng.integers(1, VOCABULARY, 128)
    return [sample(np.append(prompt, rng.integers(1, VOCABULARY, 128)), n) for n in range(4)]


def sample(ids: np.ndarray, number: int) -> Sample:
    """The second half is sampled."""
    mask = np.arange(len(ids)) >= len(ids) // 2
    return Sample(
        episode_id=f"e{number}",
        task_id="task",
        agent_names=("agent",),
        ids=ids.astype(np.int32),
        loss_mask=mask,
        logprobs=np.where(mask, -np.log(VOCABULARY), 0).astype(np.float32),
        call_index=np.where(mask, 0, -1).astype(np.int32),
        policy_versions=np.where(mask, 0, -1).astype(np.int32),
        temperature=np.ones(len(ids), np.float32),
        advantages=np.where(mask, 1.0 if number % 2 else -1.0, 0).astype(np.float32),
    )


def memory_mb(which: str) -> float:
    """`VmRSS`: what this process has now; `VmHWM`: the most that it had."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index(f"{which}:") + 1]) / 1024


def measure(rank: int, with_kl: bool, rounds: int) -> dict[str, Any]:
    """One row, in this process."""
    torch.set_num_threads(1)
    policy = model()
    weights = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    lora = LoraConfig(lora_rank=rank)
    adapter = Adapter(policy, lora, base_name="base", seed=0) if rank else None
    settings = TrainerCommonConfig(use_kl_loss=with_kl)
    trainer = PolicyTrainer(policy, settings, total_steps=100, adapter=adapter)
    seconds = []
    for step in range(1, rounds + 1):
        started = time.process_time()
        trainer.update(samples(), step=step, policy_version=0)
        seconds.append(time.process_time() - started)
    trained = sum(w.numel() for w in policy.parameters() if w.requires_grad)
    peak = memory_mb("VmHWM")
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(
            Path(folder),
            Position(step=1, policy_version=1, reader_state={}),
            model=policy,
            optimizer=trainer.optimizer,
            adapter=adapter,
            tokenizer_dir=Path(folder),
        )
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return {
        "rank": rank,
        "use_kl_loss": with_kl,
        "trained_millions": round(trained / 1e6, 3),
        "weights_mb": round(weights),
        "peak_mb": round(peak),
        "checkpoint_mb": round(size / 2**20, 1),
        "seconds": round(median(seconds[1:] or seconds), 3),
    }


def main() -> None:
    """Print one row per case, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(*CASES[options.case], options.rounds)))
        return
    rows = []
    for number in range(len(CASES)):
        command = [sys.executable, __file__, "--case", str(number), "--rounds", str(options.rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        if not options.json:
            print(rows[-1], flush=True)
    if options.json:
        print(json.dumps({"threads": 1, "rounds": options.rounds, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
