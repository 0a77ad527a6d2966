"""Runs one episode with made-up answers: the real gateway and tokenizer, but no model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from ajet.config.sections.root import RootConfig
from ajet.context_tracker.chat_format import ChatFormat
from ajet.diagnostics.finding import Finding
from ajet.engine.scripted import ScriptedEngine
from ajet.schema.episode import Episode, SamplingParams
from ajet.schema.task import Task
from ajet.task_rollout.group_judging import judge_now
from ajet.task_rollout.workers import EpisodeLimits, ThreadExecutor
from ajet.task_runner.episode_run import Attempt
from ajet.training.episodes import make_runner, open_http_endpoint
from ajet.training.inputs import UserCode
from ajet.training.no_gradient import dropped_reason, untrained_reason

ANSWER = "Answer: 0"
"""The answer of the scripted model to every call."""

TIMEOUT_S = 60.0
TRACEBACK_LINES = 20
"""How many lines of a traceback are shown: the last ones."""


def run_scripted(
    config: RootConfig, chat_format: ChatFormat, code: UserCode, task: Task, max_model_len: int
) -> Episode:
    """Run the workflow on one task, with `ANSWER` as the answer to every call."""
    tokenizer = chat_format.tokenizer
    answer = [*tokenizer.encode(ANSWER, add_special_tokens=False), *chat_format.stop_token_ids[:1]]

    def script(prompt_ids: list[int], params: SamplingParams, session: str) -> list[int]:
        return answer

    engine = ScriptedEngine(script, max_model_len=max_model_len, tokenizer=tokenizer)
    return run_with_engine(config, chat_format, code, task, engine)


def run_with_engine(
    config: RootConfig, chat_format: ChatFormat, code: UserCode, task: Task, engine: ScriptedEngine
) -> Episode:
    """Run the workflow, the environment and the judge on one task, with the answers of `engine`."""
    seed, limit_s = config.ajet.trainer_common.seed, config.ajet.rollout.episode_timeout_s
    attempt = Attempt(seed=seed, tag="check", task=task, group_index=0, repeat_index=0)
    episodes: list[Episode] = []
    with closing(open_http_endpoint(config.ajet)) as http_endpoint:
        runner = make_runner(config, chat_format, engine, http_endpoint, code)
        limits = EpisodeLimits(num_at_once=1, timeout_s=min(TIMEOUT_S, limit_s), max_retries=0)
        ThreadExecutor().run(runner, [attempt], limits, lambda _, episode: episodes.append(episode))
        judge_now(runner, episodes, attempt.tag)
    return episodes[0]


def findings_of(episode: Episode, judge: str | None) -> Iterator[Finding]:
    """The findings about the workflow and the judge after a scripted episode."""
    yield _workflow(episode)
    yield _judge(episode, judge)


def _workflow(episode: Episode) -> Finding:
    calls = episode.calls
    prompts = sum(call.prompt_length for call in calls)
    answers = sum(len(call.completion_ids) for call in calls)
    text = f"{_many(len(calls), 'call')} of {prompts:,} tokens, answered with {answers}"
    failure = episode.failure
    if failure is not None and failure.kind != "judge_error":
        text += f"; it ended in {failure.kind}: {failure.message}"
        remedy = f'the cause may be that every call was answered with "{ANSWER}"'
        return Finding("warn", "episode", text, f"{remedy}\n{_end_of(failure.traceback)}".strip())
    if not calls:
        text = "the workflow did not call the model, so there is nothing to train"
        return Finding("warn", "episode", text, untrained_reason([episode]))
    tokens = sum(len(sample) for sample in episode.samples)
    trained = sum(sample.num_trained for sample in episode.samples)
    if failure is None:
        samples = _many(len(episode.samples), "sample")
        text += f"; {samples} of {tokens:,} tokens, {trained} of them trained"
        if not trained:
            reason = untrained_reason([episode]) or dropped_reason([episode])
            return Finding("bad", "episode", text, reason)
    return Finding("ok", "episode", text)


def _judge(episode: Episode, judge: str | None) -> Finding:
    name = judge.rpartition("->")[2] if judge else None
    if episode.failure is not None:
        if episode.failure.kind == "judge_error":
            trace = _end_of(episode.failure.traceback)
            return Finding("bad", "judge", f"{name}: {episode.failure.message}", trace)
        return Finding("warn", "judge", "not called, because the episode failed before")
    got = f"reward {episode.reward:g}, {'a success' if episode.is_success else 'no success'}"
    if episode.output.reward is not None:
        unused = f"; {name} is not called" if name else ""
        return Finding("ok", "judge", f"the workflow returns the reward itself: {got}{unused}")
    return Finding("ok", "judge", f"{name}: {got}, for a made-up answer")


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _end_of(traceback: str) -> str:
    """The last lines of a traceback, without the lines that only underline code."""
    lines = [line for line in traceback.splitlines() if line.strip(" ^~")]
    return "\n".join(lines[-TRACEBACK_LINES:])
