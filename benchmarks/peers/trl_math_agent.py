"""TRL's `GRPOTrainer` on the calculator agent with its own tool loop, for `math_agent.py`.

Started by `benchmarks/math_agent.py` in an environment of its own (`make .venv-trl`). It trains
the same model on the same prompts in the same order with the same hyper-parameters, saves the
weights of each step, and prints one JSON object: CPU-seconds (user and system) of each
step, and of the parts of a step.

TRL runs with its cheapest settings for this case: no vLLM (a server does not pay for a model that
takes a second per step), float32 without autocast, no gradient checkpointing, no logs, no
evaluation, no saving by the trainer. Its fused head scores completion tokens only.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_template

from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, evaluate
from tutorial.example_math_agent.problems import read_answer

TOOL_REPLY_TOKENS = 40
"""Room for one tool message in TRL's bound on the whole completion; it never binds."""
MICRO_BATCH = 16
"""Episodes of one pass. TRL pads all of a step to one length, so that this changes no work; 16
was not dearer here than 8, 32 or 64."""


class Calculator(dict[str, Any]):
    """The tool: its schema for the prompt, and a function for TRL's loop.

    From a plain function, TRL derives a schema with another key order, which makes other tokens.
    """

    __name__ = "calculator"

    def __call__(self, expression: str) -> str:
        """Evaluate one arithmetic operation."""
        return evaluate(expression)


def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """1 where the episode's last message is exactly the right answer."""
    texts = (c[-1]["content"] if c[-1]["role"] == "assistant" else "" for c in completions)
    return [float(read_answer(text) == right) for text, right in zip(texts, answer, strict=True)]


def read_tasks(path: Path) -> Dataset:
    """The task file as TRL's prompts."""
    tasks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    system = {"role": "system", "content": SYSTEM_PROMPT}
    return Dataset.from_list(
        [
            {
                "prompt": [system, {"role": "user", "content": task["main_query"]}],
                "answer": task["metadata"]["answer"],
            }
            for task in tasks
        ]
    )


def make_trainer(recipe: dict[str, Any], model_dir: Path, tasks: Path, out: Path) -> GRPOTrainer:
    """Make the trainer: the recipe under TRL's names of the settings."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.response_template = qwen3_template
    episodes = recipe["tasks_per_step"] * recipe["group_size"]
    updates = recipe["updates_per_step"]
    calls, new_tokens = recipe["max_calls"], recipe["max_new_tokens"]
    config = GRPOConfig(
        output_dir=str(out / "trl"),
        max_steps=recipe["steps"] * updates,
        per_device_train_batch_size=MICRO_BATCH,
        gradient_accumulation_steps=episodes // updates // MICRO_BATCH,
        steps_per_generation=episodes // MICRO_BATCH,
        num_generations=recipe["group_size"],
        max_tool_calling_iterations=calls - 1,
        max_completion_length=calls * (new_tokens + TOOL_REPLY_TOKENS),
        generation_kwargs={"max_new_tokens": new_tokens},
        temperature=recipe["temperature"],
        shuffle_dataset=False,
        seed=recipe["seed"],
        loss_type="dapo",
        beta=0.0,
        epsilon=recipe["clip_low"],
        epsilon_high=recipe["clip_high"],
        learning_rate=recipe["lr"],
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"power": 1.0, "lr_end": recipe["lr"] * recipe["lr_min_ratio"]},
        adam_beta1=recipe["betas"][0],
        adam_beta2=recipe["betas"][1],
        weight_decay=recipe["weight_decay"],
        max_grad_norm=recipe["grad_clip"],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32),
        processing_class=tokenizer,
        args=config,
        train_dataset=read_tasks(tasks),
        tools=[Calculator(CALCULATOR_TOOL)],
        reward_funcs=reward,
    )


def cpu_s() -> float:
    """CPU-seconds of this process so far, user and system, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Ledger(TrainerCallback):
    """Assigns CPU time to steps and to parts of steps."""

    def __init__(self, updates_per_step: int, out: Path) -> None:
        self.updates_per_step = updates_per_step
        self.out = out
        self.steps: list[float] = []
        self.parts: dict[str, float] = defaultdict(float)
        self._mark = 0.0
        self._open = [0.0]

    def watch(self, owner: Any, method: str, part: str | Callable[[], str]) -> None:
        """Assign the time of each call of a method to a part, without its inner calls' parts."""
        original = getattr(owner, method)

        def watched(*args: Any, **kwargs: Any) -> Any:
            with self._booked(part if isinstance(part, str) else part()):
                return original(*args, **kwargs)

        setattr(owner, method, watched)

    @contextmanager
    def _booked(self, part: str) -> Any:
        self._open.append(0.0)
        began = cpu_s()
        yield
        spent = cpu_s() - began
        self.parts[part] += spent - self._open.pop()
        self._open[-1] += spent

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Count everything before the first step as set-up."""
        self._mark = cpu_s()

    def on_step_end(self, args: Any, state: Any, *_: Any, **kwargs: Any) -> None:
        """End a step after its last update, and save its weights for the evaluator."""
        if state.global_step % self.updates_per_step == 0:
            self.steps.append(cpu_s() - self._mark)
            kwargs["model"].save_pretrained(self.out / f"step_{len(self.steps):06d}")
            self._mark = cpu_s()


def watch(trainer: GRPOTrainer, ledger: Ledger) -> None:
    """Measure the parts of a step separately."""
    ledger.watch(trainer, "_generate_single_turn", "generate")
    ledger.watch(trainer, "_tokenize_prompts", "render_and_parse")
    ledger.watch(trainer, "_tool_call_loop", "render_and_parse")
    ledger.watch(
        trainer,
        "_get_per_token_logps_and_entropies",
        lambda: "forward" if torch.is_grad_enabled() else "old_logprobs",
    )
    ledger.watch(trainer.accelerator, "backward", "backward")


def main() -> None:
    """Train with the recipe and print the cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=json.loads, required=True, help="JSON, see math_agent.py")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True, help="JSONL")
    parser.add_argument("--out", type=Path, required=True, help="folder for each step's weights")
    args = parser.parse_args()
    torch.set_num_threads(1)
    trainer = make_trainer(args.recipe, args.model, args.tasks, args.out)
    ledger = Ledger(args.recipe["updates_per_step"], args.out)
    watch(trainer, ledger)
    trainer.add_callback(ledger)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    parts = {name: seconds / len(ledger.steps) for name, seconds in ledger.parts.items()}
    print(json.dumps({"step_cpu_s": ledger.steps, "parts": parts}))


if __name__ == "__main__":
    main()
