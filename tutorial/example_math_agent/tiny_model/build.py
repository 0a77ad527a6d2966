"""Make the demo's tiny model from scratch: tokenizer, two warm-ups, scores, RECIPE.json.

Run as `python -m tutorial.example_math_agent.tiny_model.build --out FOLDER`.
"""

import argparse
import hashlib
import json
import logging
import platform
import random
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from tutorial.example_math_agent.problems import NUM_VALIDATION, Problem, Split, generate
from tutorial.example_math_agent.tiny_model.demonstrations import Habits, demonstrate, tokenize
from tutorial.example_math_agent.tiny_model.rollout import (
    rollout,
    success_rate,
)
from tutorial.example_math_agent.tiny_model.tokenizer import (
    Messages,
    as_transformers,
    tokenizer_config,
    train_tokenizer,
)
from tutorial.example_math_agent.tiny_model.warm_up import MAX_LENGTH, Stage, make_model, warm_up

logger = logging.getLogger(__name__)

SEED = 3
NUM_TOKENIZER_DEMONSTRATIONS = 1500
COMPETENCE = Stage(
    habits=Habits(right=0.5, guess=0.2, stop_early=0.15, wrong_operator=0.15),
    updates=700,
    batch_size=12,
    learning_rate=3e-3,
    ramp_updates=30,
    muon=True,
    context_weight=0.1,
)
BAD_HABITS = Stage(
    habits=Habits(right=0.31, guess=0.59, stop_early=0.05, wrong_operator=0.05),
    updates=200,
    batch_size=12,
    learning_rate=8e-4,
    ramp_updates=10,
    muon=False,
    context_weight=0.0,
)
MIN_COMPETENCE = 0.95
"""Greedy success on the validation tasks after the first stage; below it, digits are not copied."""


def build(folder: Path, *, seed: int = SEED) -> dict[str, Any]:
    """Build the model into a folder and return its recipe; RuntimeError if it did not learn."""
    torch.set_num_threads(1)  # the order of floating-point sums depends on it
    began = time.process_time()
    stages = (COMPETENCE, BAD_HABITS)
    counts = [stage.num_demonstrations for stage in stages]
    problems = generate({Split.WARM_UP: sum(counts), Split.VALIDATION: NUM_VALIDATION})
    lessons = _split(problems[Split.WARM_UP], counts)
    conversations = [
        _teach(lesson, stage, seed=seed + index)
        for index, (lesson, stage) in enumerate(zip(lessons, stages, strict=True))
    ]
    raw_tokenizer = train_tokenizer(conversations[0][:NUM_TOKENIZER_DEMONSTRATIONS])
    tokenizer = as_transformers(raw_tokenizer)
    model = make_model(raw_tokenizer.get_vocab_size(), seed)
    scores = []
    for stage, lesson in zip(stages, conversations, strict=True):
        warm_up(model, tokenize(tokenizer, lesson), stage)
        scores.append(evaluate(model, tokenizer, problems[Split.VALIDATION]))
        logger.info("scores %s", scores[-1])
        if stage is COMPETENCE and scores[-1]["greedy_success_rate"] < MIN_COMPETENCE:
            raise RuntimeError(f"not competent after the first stage: {scores[-1]}")
    recipe = {
        "seed": seed,
        "cpu_s": round(time.process_time() - began, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": raw_tokenizer.get_vocab_size(),
        "stages": [asdict(stage) for stage in stages],
        "scores": scores,
    }
    return write(folder, model, raw_tokenizer, recipe)


def evaluate(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: list[Problem]
) -> dict[str, float]:
    """Measure success, sampled at temperature 1 and greedy, and the share of guesses."""
    sampled = rollout(model, tokenizer, problems, greedy=False)
    greedy = rollout(model, tokenizer, problems, greedy=True)
    return {
        "success_rate": success_rate(sampled),
        "greedy_success_rate": success_rate(greedy),
        "no_tool_call_rate": sum(not e.expressions for e in sampled) / len(sampled),
    }


def write(
    folder: Path, model: Qwen3ForCausalLM, tokenizer: Tokenizer, recipe: dict[str, Any]
) -> dict[str, Any]:
    """Write weights, configuration and tokenizer, and the recipe that it returns.

    The recipe also gets the versions of the libraries and the checksum of each file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", tokenizer_config(MAX_LENGTH))
    names = sorted(p.name for p in folder.iterdir() if p.name != "RECIPE.json")
    checksums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    packages = ("torch", "transformers", "tokenizers", "renderers", "safetensors")
    made_with = {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    recipe = recipe | {"made_with": made_with, "sha256": checksums}
    _write_json(folder / "RECIPE.json", recipe)
    return recipe


def _teach(problems: list[Problem], stage: Stage, *, seed: int) -> list[Messages]:
    rng = random.Random(seed)
    return [demonstrate(problem, stage.habits, rng) for problem in problems]


def _split(problems: list[Problem], counts: list[int]) -> list[list[Problem]]:
    parts, start = [], 0
    for count in counts:
        parts.append(problems[start : start + count])
        start += count
    return parts


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8", newline="\n")


def main() -> None:
    """Build the model and print its recipe."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(json.dumps(build(args.out, seed=args.seed), indent=2))


if __name__ == "__main__":
    main()
