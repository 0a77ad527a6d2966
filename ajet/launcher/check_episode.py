"""One episode with made-up answers: the real gateway, the model's tokenizer, no model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from ajet.backbone.episodes import make_rollout, make_runner, open_http_door
from ajet.config.root import RootConfig
from ajet.context_tracker.chat_format import ChatFormat
from ajet.engine.scripted import ScriptedEngine
from ajet.launcher.finding import Finding
from ajet.schema.episode import Episode
from ajet.schema.generation import SamplingParams
from ajet.schema.task import Task

ANSWER = "Answer: 0"
"""What the scripted model says to everything."""

TIMEOUT_S = 60.0
TRACEBACK_LINES = 6


def run_scripted(
    config: RootConfig, chat_format: ChatFormat, task: Task, max_model_len: int
) -> Episode:
    """Run the workflow on one task.

    Raises:
        ConfigError: a class that the configuration names cannot be loaded.
    """
    tokenizer = chat_format.tokenizer
    answer = [*tokenizer.encode(ANSWER, add_special_tokens=False), *chat_format.stop_token_ids[:1]]

    def script(prompt_ids: list[int], params: SamplingParams, session: str) -> list[int]:
        return answer

    engine = ScriptedEngine(script, max_model_len=max_model_len, tokenizer=tokenizer)
    with closing(open_http_door(config.ajet)) as http_door:
        runner = make_runner(config, chat_format, engine, http_door)
        rollout = make_rollout(config.ajet, runner)
        limit_s = min(TIMEOUT_S, rollout.episode_timeout_s)
        once = replace(rollout, episode_timeout_s=limit_s, max_retries=0, max_failure_share=1.0)
        (group,) = once.run([task], num_repeat=1, tag="check")
    (episode,) = group.episodes
    return episode


def findings_of(episode: Episode, judge: str | None) -> Iterator[Finding]:
    """What the scripted episode shows of workflow and judge."""
    yield _workflow(episode)
    yield _judge(episode, judge)


def _workflow(episode: Episode) -> Finding:
    calls = episode.calls
    prompts = sum(call.prompt_length for call in calls)
    answers = sum(len(call.completion_ids) for call in calls)
    text = f"{len(calls)} calls of {prompts:,} tokens, answered with {answers}"
    failure = episode.failure
    if failure is not None and failure.kind != "judge_error":
        text += f'; it ended in {failure.kind}: {failure.message}. To every call the answer was "{ANSWER}"'
        return Finding("warn", "episode", text, _end_of(failure.traceback))
    if not calls:
        return Finding("warn", "episode", "the workflow did not call the model: nothing to train")
    tokens = sum(len(sample) for sample in episode.samples)
    trained = sum(sample.num_trained for sample in episode.samples)
    if failure is None:
        text += f"; {len(episode.samples)} samples of {tokens:,} tokens, {trained} of them trained"
        if not trained:
            return Finding("warn", "episode", text, "see Workflow.trainable_targets")
    return Finding("ok", "episode", text)


def _judge(episode: Episode, judge: str | None) -> Finding:
    name = judge.rpartition("->")[2] if judge else None
    if episode.failure is not None:
        if episode.failure.kind == "judge_error":
            trace = _end_of(episode.failure.traceback)
            return Finding("bad", "judge", f"{name}: {episode.failure.message}", trace)
        return Finding("warn", "judge", "not asked: the episode did not come that far")
    got = f"reward {episode.reward:g}, {'a success' if episode.is_success else 'no success'}"
    if episode.output.reward is not None:
        unused = f"; {name} is not asked" if name else ""
        return Finding("ok", "judge", f"the workflow gives the reward itself: {got}{unused}")
    return Finding("ok", "judge", f"{name}: {got}, for a made-up answer")


def _end_of(traceback: str) -> str:
    return "\n".join(traceback.rstrip().splitlines()[-TRACEBACK_LINES:])
