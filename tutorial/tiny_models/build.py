"""Make a tiny model from scratch: tokenizer, warm-up in stages, scores, RECIPE.json.

    python -m tutorial.tiny_models.build tutorial.example_countdown.teacher --out FOLDER

The argument is a module with a `RECIPE`. A model that has not learned the skills of its task before
the last stage, or has the wrong success rate at the end, is refused. The success rates are those
of the example's own workflow on its own validation tasks, measured by `ajet`.
"""

import argparse
import hashlib
import importlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from tutorial.tiny_models.conversation import tokenize
from tutorial.tiny_models.tokenizer import (
    WORD_PATTERN,
    as_transformers,
    tokenizer_config,
    train_tokenizer,
)
from tutorial.tiny_models.warm_up import MAX_LENGTH, ModelSize, Stage, make_model, warm_up

logger = logging.getLogger(__name__)

NUM_TOKENIZER_CONVERSATIONS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one tiny model is made."""

    conf: str
    """The example's YAML for a CPU, which measures the model."""
    stages: tuple[Stage, ...]
    """Skills first, then bad habits."""
    min_competence: float
    """Greedy success rate before the last stage, which adds the bad habits."""
    start: tuple[float, float]
    """Lowest and highest sampled success rate of the finished model."""
    size: ModelSize = field(default_factory=ModelSize)
    pattern: str = WORD_PATTERN
    """Boundaries of tokens: `WORD_PATTERN` or `NUMBER_PATTERN`."""
    max_vocab_size: int = 768
    """Tokens at most; a longer constant line takes more of them."""
    settings: tuple[str, ...] = ()
    """More settings for the measurement, for example `rollout.validation.num_tasks=200`."""
    seed: int = 3
    dtype: torch.dtype = torch.bfloat16
    """Of the stored weights."""


def build(
    recipe: Recipe, folder: Path, *, first_stage: int = 1, weights: Path | None = None
) -> dict[str, Any]:
    """Build the model into a folder and return what RECIPE.json says; RuntimeError if it fails.

    Each stage starts from the weights as the stage before it stored them. So a build that was ended
    or refused can continue: `weights` is the folder of the stage before `first_stage`.
    """
    torch.set_num_threads(1)  # the order of floating-point sums depends on it
    began = time.process_time()
    lessons = [list(stage.demonstrate(stage.num_demonstrations)) for stage in recipe.stages]
    raw_tokenizer = train_tokenizer(
        lessons[0][:NUM_TOKENIZER_CONVERSATIONS],
        pattern=recipe.pattern,
        max_vocab_size=recipe.max_vocab_size,
    )
    tokenizer = as_transformers(raw_tokenizer)
    model = make_model(raw_tokenizer.get_vocab_size(), recipe.size, recipe.seed)
    scores: list[dict[str, float]] = []
    for number, (stage, lesson) in enumerate(zip(recipe.stages, lessons, strict=True), start=1):
        stored = folder if number == len(recipe.stages) else folder / f"stage_{number}"
        if number < first_stage:
            if weights is None or number < first_stage - 1:
                continue
            stored = weights
        else:
            warm_up(model, tokenize(tokenizer, lesson), stage)
            write(stored, model, raw_tokenizer, {}, recipe.dtype)
        model = Qwen3ForCausalLM.from_pretrained(stored, dtype=torch.float32)
        scores.append(measure(recipe, stored))
        logger.info("stage %d: %s", number, scores[-1])
        if number == len(recipe.stages) - 1:
            _check_skills(recipe, scores[-1], stored)
    low, high = recipe.start
    if not low <= scores[-1]["success_rate"] <= high:
        raise RuntimeError(f"expected a success rate from {low} to {high}, got {scores[-1]}")
    facts = {
        "seed": recipe.seed,
        "cpu_s": round(time.process_time() - began, 1) if first_stage == 1 else None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": raw_tokenizer.get_vocab_size(),
        "size": asdict(recipe.size),
        "stages": [facts_of(stage) for stage in recipe.stages],
        "scores": scores,
    }
    for number in range(1, len(recipe.stages)):
        shutil.rmtree(folder / f"stage_{number}", ignore_errors=True)
    return write(folder, model, raw_tokenizer, facts, recipe.dtype)


def _check_skills(recipe: Recipe, score: dict[str, float], stored: Path) -> None:
    if score["greedy_success_rate"] < recipe.min_competence:
        raise RuntimeError(
            f"the skills are not there yet: expected a greedy success rate of "
            f"{recipe.min_competence}, got {score}; the weights are in {stored}"
        )


def measure(recipe: Recipe, model: Path) -> dict[str, float]:
    """Success rates of the example's workflow with the model in a folder: sampled and greedy."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "ajet.cli", "--conf", recipe.conf, "--backbone=local"]
        command += ["--exp-dir", name, f"model.path={model}", "ajet.experiment_name=run"]
        command += ["trainer_common.val_only=true", *recipe.settings]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        lines = (Path(name) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    measured = json.loads(lines[-1])
    names = ("success_rate", "greedy_success_rate", "reward_mean", "greedy_reward_mean")
    return {n: round(measured[f"eval/{n}"], 4) for n in names if f"eval/{n}" in measured}


def write(
    folder: Path,
    model: Qwen3ForCausalLM,
    tokenizer: Tokenizer,
    facts: dict[str, Any],
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Write weights, configuration and tokenizer, and RECIPE.json, whose content it returns.

    RECIPE.json also gets the versions of the libraries and the checksum of each file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: weight.to(dtype) for name, weight in model.state_dict().items()}
    stored = Qwen3ForCausalLM(model.config).to(dtype)
    stored.load_state_dict(state)
    stored.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", tokenizer_config(MAX_LENGTH))
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != "RECIPE.json")
    checksums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    packages = ("torch", "transformers", "tokenizers", "renderers", "safetensors")
    made_with = {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    facts = facts | {"made_with": made_with, "sha256": checksums}
    _write_json(folder / "RECIPE.json", facts)
    return facts


def facts_of(stage: Stage) -> dict[str, Any]:
    """The numbers of a stage."""
    return {name: getattr(stage, name) for name in stage.__slots__ if name != "demonstrate"}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8", newline="\n")


def main() -> None:
    """Build the model of an example and print its recipe."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("teacher", help="module with a RECIPE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-stage", type=int, default=1, help="with --weights: to continue")
    parser.add_argument("--weights", type=Path, help="folder of the stage before")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe: Recipe = importlib.import_module(args.teacher).RECIPE
    print(
        json.dumps(
            build(recipe, args.out, first_stage=args.first_stage, weights=args.weights), indent=2
        )
    )


if __name__ == "__main__":
    main()
