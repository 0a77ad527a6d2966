"""Speed of the embedded engine without the rest of the system.

    python benchmarks/engine.py --json

One torch thread, the shipped tiny model, 64 prompts of 70 tokens that share nothing, 128 sampled
tokens each, logprobs included. CPU seconds are those of the whole process. The median of the
rounds is reported, and `load_average` shows what else the machine did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from ajet.context_tracker.chat_format import load_tokenizer
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.engine.embedded.load import load_model
from ajet.schema.episode import SamplingParams

MODEL = Path("ajet/tiny_model/calculator")
PROMPT_TOKENS = 70
NEW_TOKENS = 128


async def sample_all(engine: EmbeddedEngine, prompts: list[list[int]], new_tokens: int) -> None:
    """Sample from all prompts at once, each to its full length."""
    params = SamplingParams(max_tokens=new_tokens)
    sessions = [f"{number:04d}" for number in range(len(prompts))]
    for session in sessions:
        engine.open_session(session)
    await asyncio.gather(
        *(
            engine.generate(prompt, params, session=session)
            for prompt, session in zip(prompts, sessions, strict=True)
        )
    )
    for session in sessions:
        engine.close_session(session)


def measure(num_seqs: int, rounds: int) -> dict[str, float]:
    """Measure tokens per second of wall time and of CPU time, after one warm-up round."""
    torch.set_num_threads(1)
    model = load_model(MODEL)
    vocabulary = model.config.vocab_size
    engine = EmbeddedEngine(model, load_tokenizer(MODEL), max_model_len=512, max_num_seqs=num_seqs)
    wall_s, cpu_s, passes = [], [], []
    for number in range(rounds + 1):
        rng = np.random.default_rng(number)
        prompts = rng.integers(0, vocabulary, (num_seqs, PROMPT_TOKENS)).tolist()
        before = time.perf_counter(), time.process_time(), engine.counters.passes
        asyncio.run(sample_all(engine, prompts, NEW_TOKENS))
        wall_s.append(time.perf_counter() - before[0])
        cpu_s.append(time.process_time() - before[1])
        passes.append(engine.counters.passes - before[2])
    asyncio.run(engine.aclose())
    tokens = num_seqs * NEW_TOKENS
    return {
        "engine_tokens_per_s": tokens / statistics.median(wall_s[1:]),
        "engine_tokens_per_cpu_s": tokens / statistics.median(cpu_s[1:]),
        "cpu_ms_per_pass": 1e3 * statistics.median(cpu_s[1:]) / passes[-1],
        "num_seqs": num_seqs,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--num-seqs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(json.dumps(measure(args.num_seqs, args.rounds), indent=1))


if __name__ == "__main__":
    main()
