"""An engine that answers from a script: no model, no torch. For tests, ours and users'."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ajet.engine.base import OnToken
from ajet.engine.completion_room import max_new_tokens
from ajet.engine.stopping import finish_reason
from ajet.errors import EngineError
from ajet.schema.generation import Generation, SamplingParams

Script = Callable[[list[int], SamplingParams, str], Generation | list[int]]
"""From prompt ids, parameters and session to the completion: its ids, or all of it."""


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer."""

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]:
        """The text's ids."""
        ...

    def decode(self, token_ids: list[int], /) -> str:
        """The ids' text."""
        ...


@dataclass(slots=True, kw_only=True, frozen=True)
class ScriptedRequest:
    """One `generate` call and its answer."""

    prompt_ids: list[int]
    params: SamplingParams
    session: str
    generation: Generation


class ScriptedEngine:
    """Replays completions, and remembers every request.

        engine = ScriptedEngine.from_texts(tokenizer, ["4 + 4 is", "Answer: 8"], stop_id=2)

    Args:
        script: a function from prompt, parameters and session to a completion; or a list of
            completions as token ids, which each session gets one after the other. Where a
            function gives ids only, logprobs are made up: negative, and a function of the token
            and its position. It may raise `EngineError` to play a fault.
        max_model_len: longest prompt plus completion.
        delay_s: how long each answer takes; its tokens are spread over it.
        policy_version: stands in every generation; tests may change it.
        tokenizer: needed where requests have stop strings.
    """

    def __init__(
        self,
        script: Script | Sequence[Sequence[int]],
        *,
        max_model_len: int = 4096,
        delay_s: float = 0.0,
        policy_version: int = 0,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.max_model_len = max_model_len
        self.policy_version = policy_version
        self.requests: list[ScriptedRequest] = []
        """What was answered, in order of the answers."""
        self.open_sessions: set[str] = set()
        self._script = script if callable(script) else _replay(script)
        self._delay_s = delay_s
        self._tokenizer = tokenizer
        self._is_closed = False
        self._lock = threading.Lock()

    @classmethod
    def from_texts(
        cls,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        stop_id: int,
        *,
        max_model_len: int = 4096,
        delay_s: float = 0.0,
    ) -> ScriptedEngine:
        """Each session gets these texts one after the other, each ended by `stop_id`."""
        completions = [
            [*tokenizer.encode(text, add_special_tokens=False), stop_id] for text in texts
        ]
        return cls(completions, max_model_len=max_model_len, delay_s=delay_s, tokenizer=tokenizer)

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        """Answer from the script, cut where the parameters or the context end it.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            EngineError: the script is exhausted or raised it, or the engine is closed.
        """
        prompt = list(prompt_ids)
        max_new = max_new_tokens(len(prompt), params, self.max_model_len)
        if on_token is None:
            await asyncio.sleep(self._delay_s)
        generation = self._answer(prompt, params, session, max_new)
        if on_token is not None:
            await self._tell(generation, on_token)
        self.requests.append(
            ScriptedRequest(
                prompt_ids=prompt, params=params, session=session, generation=generation
            )
        )
        return generation

    def open_session(self, session: str) -> None:
        """Note that the session is open."""
        self.open_sessions.add(session)

    def close_session(self, session: str) -> None:
        """Note that the session is not open."""
        self.open_sessions.discard(session)

    async def aclose(self) -> None:
        """Later requests end in `EngineError`."""
        self._is_closed = True

    def _answer(
        self, prompt: list[int], params: SamplingParams, session: str, max_new: int
    ) -> Generation:
        with self._lock:  # scripts may have state, and callers live in many threads
            if self._is_closed:
                raise EngineError("the engine was closed")
            answer = self._complete(self._script(prompt, params, session))
            return self._cut(answer, params, max_new)

    async def _tell(self, generation: Generation, on_token: OnToken) -> None:
        pause_s = self._delay_s / len(generation.token_ids)
        await asyncio.sleep(0)
        for token, logprob in zip(generation.token_ids, generation.logprobs, strict=True):
            if pause_s:
                await asyncio.sleep(pause_s)
            on_token(token, logprob)

    def _complete(self, answer: Generation | list[int]) -> Generation:
        if isinstance(answer, Generation):
            return answer
        if not answer:
            raise EngineError("the script gave an empty completion: it has one token at least")
        return Generation(
            token_ids=answer,
            logprobs=[-(1 + (7 * token + i) % 31) / 32 for i, token in enumerate(answer)],
            policy_versions=[self.policy_version] * len(answer),
        )

    def _cut(self, script: Generation, params: SamplingParams, max_new: int) -> Generation:
        """What an engine that samples would have given of it before it had to end."""
        for length in range(1, len(script.token_ids) + 1):
            reason = finish_reason(script.token_ids[:length], params, max_new, self._decode)
            if reason is not None:
                return Generation(
                    token_ids=script.token_ids[:length],
                    logprobs=script.logprobs[:length],
                    policy_versions=script.policy_versions[:length],
                    finish_reason=reason,
                )
        return script

    def _decode(self, ids: list[int]) -> str:
        if self._tokenizer is None:
            raise EngineError("a request has stop strings: the scripted engine needs a tokenizer")
        return self._tokenizer.decode(ids)


def _replay(completions: Sequence[Sequence[int]]) -> Script:
    """A script that gives each session the completions in order."""
    num_given: dict[str, int] = defaultdict(int)

    def script(prompt_ids: list[int], params: SamplingParams, session: str) -> list[int]:
        index = num_given[session]
        if index == len(completions):
            raise EngineError(
                f"the script has {len(completions)} completions, and session {session!r} asks "
                "for one more"
            )
        num_given[session] += 1
        return list(completions[index])

    return script
