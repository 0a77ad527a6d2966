"""vLLM's own offline class: reads and writes lines of JSON."""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Load what the first line names; every further line is one round."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # vLLM writes to standard output as soon as it is imported
    from vllm import LLM, SamplingParams

    first = json.loads(sys.stdin.readline())
    prompts = [{"prompt_token_ids": ids} for ids in first["prompts"]]
    llm = LLM(
        first["model"],
        dtype="float32",
        enforce_eager=True,
        max_model_len=first["max_model_len"],
        max_num_seqs=len(prompts),
        kv_cache_memory_bytes=2**30,
        enable_chunked_prefill=False,
        max_num_batched_tokens=4096,
    )
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        params = SamplingParams(max_tokens=order["max_tokens"], logprobs=0, ignore_eos=True)
        started = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        assert all(len(o.outputs[0].token_ids) == order["max_tokens"] for o in outputs)
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
