"""Make the demo's tiny model from scratch: tokenizer, two warm-ups, scores, RECIPE.json.

Run as `python -m tutorial.example_math_agent.tiny_model.build --out FOLDER`.
"""

import argparse
import json
import logging
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from tutorial.example_math_agent.problems import NUM_VALIDATION, Problem, Split, generate
from tutorial.example_math_agent.tiny_model.demonstrations import Habits, demonstrate
from tutorial.example_math_agent.tiny_model.rollout import (
    rollout,
    success_rate,
)
from tutorial.tiny_models.build import NUM_TOKENIZER_CONVERSATIONS, facts_of, write
from tutorial.tiny_models.conversation import Conversation, tokenize
from tutorial.tiny_models.tokenizer import as_transformers, train_tokenizer
from tutorial.tiny_models.warm_up import ModelSize, Stage, make_model, warm_up

logger = logging.getLogger(__name__)

SEED = 3


def lesson(count: int, *, skip: int, habits: Habits, seed: int) -> list[Conversation]:
    """Demonstrations on the warm-up problems after the first `skip` ones."""
    rng = random.Random(seed)
    problems = generate({Split.WARM_UP: skip + count})[Split.WARM_UP][skip:]
    return [demonstrate(problem, habits, rng) for problem in problems]


COMPETENCE = Stage(
    demonstrate=partial(
        lesson,
        skip=0,
        habits=Habits(right=0.5, guess=0.2, stop_early=0.15, wrong_operator=0.15),
        seed=SEED,
    ),
    updates=700,
    batch_size=12,
    learning_rate=3e-3,
    ramp_updates=30,
    muon=True,
    context_weight=0.1,
)
BAD_HABITS = Stage(
    demonstrate=partial(
        lesson,
        skip=COMPETENCE.num_demonstrations,
        habits=Habits(right=0.31, guess=0.59, stop_early=0.05, wrong_operator=0.05),
        seed=SEED + 1,
    ),
    updates=200,
    batch_size=12,
    learning_rate=8e-4,
    ramp_updates=10,
    muon=False,
    context_weight=0.0,
)
MIN_COMPETENCE = 0.95
"""Greedy success on the validation tasks after the first stage; below it, digits are not copied."""


def build(folder: Path) -> dict[str, Any]:
    """Build the model into a folder and return its recipe; RuntimeError if it did not learn."""
    torch.set_num_threads(1)  # the order of floating-point sums depends on it
    began = time.process_time()
    stages = (COMPETENCE, BAD_HABITS)
    lessons = [list(stage.demonstrate(stage.num_demonstrations)) for stage in stages]
    held_out = generate(
        {
            Split.WARM_UP: sum(stage.num_demonstrations for stage in stages),
            Split.VALIDATION: NUM_VALIDATION,
        }
    )[Split.VALIDATION]
    raw_tokenizer = train_tokenizer(lessons[0][:NUM_TOKENIZER_CONVERSATIONS])
    tokenizer = as_transformers(raw_tokenizer)
    model = make_model(raw_tokenizer.get_vocab_size(), ModelSize(), SEED)
    scores = []
    for stage, conversations in zip(stages, lessons, strict=True):
        warm_up(model, tokenize(tokenizer, conversations), stage)
        scores.append(evaluate(model, tokenizer, held_out))
        logger.info("scores %s", scores[-1])
        if stage is COMPETENCE and scores[-1]["greedy_success_rate"] < MIN_COMPETENCE:
            raise RuntimeError(f"not competent after the first stage: {scores[-1]}")
    recipe = {
        "seed": SEED,
        "cpu_s": round(time.process_time() - began, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": raw_tokenizer.get_vocab_size(),
        "stages": [facts_of(stage) for stage in stages],
        "scores": scores,
    }
    return write(folder, model, raw_tokenizer, recipe, torch.float32)


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


def main() -> None:
    """Build the model and print its recipe."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(json.dumps(build(args.out), indent=2))


if __name__ == "__main__":
    main()
