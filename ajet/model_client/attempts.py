"""The attempts at one question: what is tried again, how long, and what the failure says.

| what happened | tried again |
|---|---|
| no connection, it broke, or no answer within `timeout_s` | yes |
| 408, 409, 429 or 500 and above | yes; after the pause of `retry-after` if the server names one |
| an answer that is no chat completion, or has no choice or no text | yes |
| an answer without the form that was asked for | `unusable_retries` times |
| another status, such as a wrong key; a used-up quota | no |
| a refusal, or an answer of more than `max_answer_bytes` | no |
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ModelCallError
from ajet.model_client.answer_form import quoted, read_form
from ajet.model_client.call_log import CallBudget
from ajet.model_client.endpoint import ChatSender, ModelEndpoint

if TYPE_CHECKING:
    import httpx2

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_QUOTA = "insufficient_quota"
_MALFORMED = (
    *(ValueError, TypeError, AttributeError, LookupError),
    ArithmeticError,
    RecursionError,
)
"""What reading a response raises that is no chat completion."""
MOST_TOKENS = 10**12


@dataclass(slots=True, kw_only=True, frozen=True)
class RawAnswer:
    """A usable answer."""

    text: str
    value: str | None
    """The object of the form that was asked for, as JSON."""
    prompt_tokens: int
    completion_tokens: int


class _Again(ModelCallError):
    """This attempt failed in a way that allows another one."""

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, is_unusable: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_unusable = is_unusable


class Attempts:
    """Asks one question until there is a usable answer."""

    def __init__(
        self,
        sender: ChatSender,
        config: ModelClientConfig,
        endpoint: ModelEndpoint,
        budget: CallBudget,
    ) -> None:
        self.number = 0
        """Attempts so far."""
        self._sender = sender
        self._config = config
        self._endpoint = endpoint
        self._budget = budget
        self._num_unusable = 0
        self._last: str | None = None
        self._deadline = 0.0

    async def run(self, request: dict[str, Any], form: type[BaseModel] | None) -> RawAnswer:
        """The first usable answer.

        Raises:
            ModelCallError: there is none within the limits; the message names the last failure.
        """
        body = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
        limit_s = self._config.deadline_s
        self._deadline = time.monotonic() + limit_s
        try:
            async with asyncio.timeout(limit_s):
                try:
                    return await self._one(body, form)
                except _Again as error:
                    return await self._again(body, form, error)
        except TimeoutError:
            last = f"; the last failure: {self._last}" if self._last else ""
            why = f"no answer within {limit_s:g} s (deadline_s){last}"
        except _Again as error:
            why = str(error)
        except ModelCallError as error:
            raise type(error)(self._said(str(error))) from None
        raise ModelCallError(self._said(why))

    async def _again(
        self, request: bytes, form: type[BaseModel] | None, first: _Again
    ) -> RawAnswer:
        """The first usable answer after an attempt that failed."""
        failed = [first]

        async def attempt() -> RawAnswer:
            if failed:
                raise failed.pop()  # counts as the first one
            return await self._one(request, form)

        # Made only after a failure: most questions are answered at once.
        retrying = AsyncRetrying(
            stop=self._is_last,
            wait=_pause_s,
            retry=retry_if_exception_type(_Again),
            reraise=True,
        )
        answer: RawAnswer = await retrying(attempt)
        return answer

    def _said(self, why: str) -> str:
        tries = "1 attempt" if self.number == 1 else f"{self.number} attempts"
        where = f"model {self._config.model} at {self._endpoint.url}"
        return self._endpoint.without_key(f"{where}, {tries}: {why}")

    def _is_last(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, _Again):
            return True
        if error.is_unusable:
            self._num_unusable += 1
            return self._num_unusable > self._config.unusable_retries
        if error.retry_after_s and time.monotonic() + error.retry_after_s > self._deadline:
            return True  # waiting would end in the deadline, which explains less
        return self.number - self._num_unusable > self._config.max_retries

    async def _one(self, request: bytes, form: type[BaseModel] | None) -> RawAnswer:
        self._budget.take_call()
        self.number += 1
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return self._usable(await self._post(request), form)
        except TimeoutError:
            error = _Again(f"no answer within {self._config.timeout_s:g} s (timeout_s)")
        except _Again as again:
            error = again
        self._last = str(error)
        raise error

    async def _post(self, request: bytes) -> bytes:
        """The body of the response, read up to the limit."""
        from aiohttp import ClientError
        from httpx2 import RequestError

        try:
            response = await self._sender.send(request)
            try:
                body = await self._body_of(response)
            finally:
                await response.aclose()
        except RequestError as error:
            # httpx's error says less than that of aiohttp, which it was made from: a server that
            # breaks off is a ConnectTimeout there.
            reason = error.__cause__ or error
            raise _Again(f"{type(reason).__name__}: {reason or error}") from None
        except (OSError, ClientError) as error:  # a response that is no HTTP, among others
            raise _Again(f"{type(error).__name__}: {error}") from None
        except ValueError as error:  # a header that no request can carry
            raise ModelCallError(f"the request cannot be sent: {error}") from None
        if not response.is_success:
            raise _status_error(response, body)
        return body

    async def _body_of(self, response: httpx2.Response) -> bytes:
        limit = self._config.max_answer_bytes
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > limit and not response.is_success:
                break  # the status says enough
            if len(body) > limit:
                raise ModelCallError(
                    f"the response has more than {limit:,} bytes (max_answer_bytes); it "
                    f"begins with {quoted(body[:200].decode(errors='replace'))}"
                )
        return bytes(body)

    def _usable(self, body: bytes, form: type[BaseModel] | None) -> RawAnswer:
        try:
            completion = json.loads(body)
            usage = completion.get("usage") or {}
            prompt_tokens = _number_of_tokens(usage.get("prompt_tokens"))
            completion_tokens = _number_of_tokens(usage.get("completion_tokens"))
            choice = (completion.get("choices") or [{}])[0]
            message = choice.get("message") or {}
            text, refusal = message.get("content"), message.get("refusal")
            error = completion.get("error")
        except _MALFORMED:
            raise _Again(
                f"the response is no chat completion: {quoted(body.decode(errors='replace'))}"
            ) from None
        self._budget.add_tokens(prompt_tokens + completion_tokens)
        if refusal or choice.get("finish_reason") == "content_filter":
            raise ModelCallError(f"the model refused to answer: {quoted(str(refusal or text))}")
        is_cut = choice.get("finish_reason") == "length"
        cut = ", which was cut off (max_tokens)" if is_cut else ""
        if error and not text:
            raise _Again(f"the response is an error: {quoted(str(error))}")
        if text and not isinstance(text, str):
            raise _Again(f"the answer is no text: {quoted(str(text))}")
        if not text or not text.strip():
            raise _Again(f"the answer is empty{cut}")
        value = read_form(text, form) if form else None
        if isinstance(value, str):
            raise _Again(f"unusable answer{cut}: {value}", is_unusable=True)
        return RawAnswer(
            text=text,
            value=value.model_dump_json() if value else None,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )


def _number_of_tokens(given: Any) -> int:
    """A number of tokens within what a budget can count."""
    return min(max(0, int(given or 0)), MOST_TOKENS)


def _status_error(response: httpx2.Response, body: bytes) -> ModelCallError:
    status, said = response.status_code, _error_of(body)
    code = said.get("code")
    words = said.get("message") or body.decode(errors="replace").strip() or "no words"
    shown = f" {code}" if code else ""
    redirected = f" after a redirect to {response.url}" if response.history else ""
    message = f"HTTP {status}{shown}{redirected}: {quoted(str(words))}"
    is_busy = status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if not is_busy or code == _QUOTA:
        return ModelCallError(message)
    return _Again(message, retry_after_s=_retry_after_s(response.headers))


def _error_of(body: bytes) -> dict[str, Any]:
    """What the server says about an error; empty if it is not in the form of the API."""
    try:
        said = json.loads(body)
    except _MALFORMED:
        return {}
    error = said.get("error", said) if isinstance(said, dict) else None
    return error if isinstance(error, dict) else {}


def _retry_after_s(headers: Any) -> float | None:
    """The pause that a server asks for: in milliseconds, in seconds or as a date."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            return max(0.0, float(headers[name]) * unit_s)
    try:
        date = parsedate_to_datetime(headers.get("retry-after"))
    except (ValueError, TypeError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _pause_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Again) and error.retry_after_s is not None:
        return error.retry_after_s
    longest = min(FIRST_PAUSE_S * 2 ** (state.attempt_number - 1), LONGEST_PAUSE_S)
    return _RANDOM.uniform(longest / 2, longest)


_RANDOM = random.Random()
"""Not the module's own generator, whose state belongs to the user's code."""
