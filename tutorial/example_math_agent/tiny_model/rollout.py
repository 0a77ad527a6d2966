"""Run the model on many tasks at once, with only transformers and the calculator.

The conversation continues as in the gateway: sampled ids stay as they are, and the renderer appends
the tool's message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM

from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, evaluate
from tutorial.example_math_agent.problems import Problem, read_answer
from tutorial.tiny_models.tokenizer import EOS, make_renderer

TOOLS = [CALCULATOR_TOOL]
MAX_CALLS = 5
"""Requests to the model in one episode."""
MAX_NEW_TOKENS = 40
"""Sampled tokens of one request."""


@dataclass(slots=True, kw_only=True)
class Episode:
    """One problem and its conversation."""

    problem: Problem
    token_ids: list[int]
    """[L] the whole conversation so far."""
    expressions: list[str] = field(default_factory=list)
    """Expressions that the calculator got, in order."""
    success: bool = False


@torch.inference_mode()
def rollout(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    *,
    greedy: bool,
    seed: int = 0,
) -> list[Episode]:
    """One episode per problem; sampled at temperature 1 unless greedy."""
    torch.manual_seed(seed)
    renderer = make_renderer(tokenizer)
    end = tokenizer.convert_tokens_to_ids(EOS)

    def start(problem: Problem) -> Episode:
        messages = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": problem.question},
        ]
        ids = renderer.render_ids(messages, tools=TOOLS, add_generation_prompt=True)
        return Episode(problem=problem, token_ids=ids)

    def advance(episode: Episode, completion: list[int]) -> bool:
        """Use the completion; returns True if the model must be asked again."""
        prompt, episode.token_ids = episode.token_ids, episode.token_ids + completion
        if completion[-1] != end:
            return False
        parsed = renderer.parse_response(completion)
        if not parsed.tool_calls:
            answer = read_answer(parsed.content or "")
            episode.success = answer == str(episode.problem.answer)
            return False
        arguments = parsed.tool_calls[0].arguments
        expression = str(arguments.get("expression", "")) if isinstance(arguments, dict) else ""
        episode.expressions.append(expression)
        result = {"role": "tool", "content": evaluate(expression)}
        bridged = renderer.bridge_to_next_turn(prompt, completion, [result], tools=TOOLS)
        episode.token_ids = bridged.token_ids
        return True

    episodes = [start(problem) for problem in problems]
    active = episodes
    for _ in range(MAX_CALLS):
        completions = _complete(model, [e.token_ids for e in active], end, greedy)
        active = [e for e, ids in zip(active, completions, strict=True) if advance(e, ids)]
        if not active:
            break
    return episodes


def success_rate(episodes: Sequence[Episode]) -> float:
    """The share of episodes with the right final answer."""
    return sum(episode.success for episode in episodes) / len(episodes)


def _complete(
    model: Qwen3ForCausalLM, prompts: list[list[int]], end: int, greedy: bool
) -> list[list[int]]:
    """Continue each prompt up to and with the end token, or to the limit."""
    length = max(map(len, prompts))
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(prompt)
        mask[row, length - len(prompt) :] = 1
    config = GenerationConfig(
        do_sample=not greedy,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=end,
        pad_token_id=0,
        **({} if greedy else {"temperature": 1.0, "top_k": 0, "top_p": 1.0}),
    )
    output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [_up_to(row, end) for row in output[:, length:].tolist()]


def _up_to(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids
