"""A short way for completions of token ids, in front of vLLM's own.

Given to vLLM as `--middleware ajet.engine.vllm.token_fast_path.TokenFastPath`. It answers as vLLM
does, with
what `ajet.engine.vllm.client` reads of an answer: ids, logprobs and why it ended. Left out is what
costs more than all the rest of a call where the model is small: each sampled token as text, twice.
Everything else goes to vLLM's own routes: streams, stop strings, logprobs of a prompt.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

App = Callable[[Any, Any, Any], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

_PARAMS = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop_token_ids", "ignore_eos")
_FIELDS = {
    *_PARAMS,
    *("model", "prompt", "stop", "logprobs", "return_token_ids"),
    *("skip_special_tokens", "spaces_between_special_tokens"),
}
"""A request with others is none of ours."""


class TokenFastPath:
    """ASGI middleware around vLLM's server."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._numbers = count()

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Answer one request, or hand it on as it came."""
        if scope["type"] != "http" or scope["path"] != "/v1/completions":
            await self._app(scope, receive, send)
            return
        messages = [message async for message in _body(receive)]
        request = _request(b"".join(message.get("body", b"") for message in messages))
        if request is None:
            await self._app(scope, _replayed(messages, receive), send)
            return
        answer = asyncio.ensure_future(self._complete(scope["app"].state.engine_client, request))
        gone = asyncio.ensure_future(receive())  # nothing but the client's end is left to come
        await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not answer.done():
            answer.cancel()  # vLLM drops the request
            return
        try:
            status, content = 200, answer.result()
        except ValueError as error:
            status, content = 400, {"error": {"message": str(error)}}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})

    async def _complete(self, engine: Any, request: dict[str, Any]) -> dict[str, Any]:
        params = SamplingParams(
            **{name: request[name] for name in _PARAMS if name in request},
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"type": "token", "prompt_token_ids": request["prompt"]}
        results = engine.generate(prompt, params, f"ajet-{next(self._numbers)}")
        final = [result async for result in results][-1].outputs[0]
        steps = zip(final.token_ids, final.logprobs, strict=True)
        choice = {
            "token_ids": list(final.token_ids),
            "logprobs": {"token_logprobs": [step[token].logprob for token, step in steps]},
            "finish_reason": final.finish_reason,
        }
        return {"choices": [choice]}


def _request(body: bytes) -> dict[str, Any] | None:
    """None where it is for vLLM's own route, which also says what is wrong with it."""
    try:
        request = json.loads(body)
    except ValueError:
        return None
    is_ours = (
        isinstance(request, dict)
        and request.keys() <= _FIELDS
        and not request.get("stop")
        and request.get("logprobs") == 0
        and request.get("return_token_ids") is True
        and isinstance(ids := request.get("prompt"), list)
        and bool(ids)
        and all(type(token) is int and token >= 0 for token in ids)
    )
    return request if is_ours else None


async def _body(receive: Receive) -> AsyncIterator[dict[str, Any]]:
    while True:
        message = await receive()
        yield message
        if not message.get("more_body"):
            return


def _replayed(messages: list[dict[str, Any]], receive: Receive) -> Receive:
    read = iter(messages)

    async def again() -> dict[str, Any]:
        return next(read, None) or await receive()

    return again
