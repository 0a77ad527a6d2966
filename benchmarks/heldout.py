"""Held-out success of saved weights: one evaluator, whichever program trained them.

    python -m benchmarks.heldout --tokenizer ajet/tiny_model/calculator --tasks 128 FOLDER ...

Runs the first validation tasks of the math agent at temperature 1, with the same random numbers
for every folder, and prints a JSON list with the share of right answers per folder. The episodes
use only transformers and `renderers`, no part of any trainer.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

import torch
from transformers import AutoTokenizer, Qwen3ForCausalLM

from tutorial.example_math_agent.problems import Problem, make_problem
from tutorial.example_math_agent.tiny_model.rollout import rollout, success_rate

VALIDATION = Path("tutorial/example_math_agent/data/validation.jsonl")


def read_problems(count: int) -> list[Problem]:
    """The problems behind the first lines of the validation file."""
    lines = VALIDATION.read_text(encoding="utf-8").splitlines()[:count]
    return [make_problem(int(json.loads(line)["task_id"].rpartition("-")[2])) for line in lines]


def main() -> None:
    """Print the success rate of each folder's weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="weights in Hugging Face format")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=128)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    problems = read_problems(args.tasks)
    rates = []
    for folder in args.folders:
        model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
        rates.append(success_rate(rollout(model, tokenizer, problems, greedy=False)))
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
