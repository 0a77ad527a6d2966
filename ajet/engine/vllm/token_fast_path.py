"""A middleware that answers completions of token ids without converting them to text.

Start vLLM with `--middleware ajet.engine.vllm.token_fast_path.TokenFastPath`. The response has
vLLM's format, with the fields that `ajet.engine.vllm.client` reads: ids, logprobs and the finish
reason. vLLM's own route also decodes each sampled token to text, twice, which for a small model
costs more than the rest of the call. All other requests (streams, stop strings, logprobs of a
prompt) go to vLLM's own routes.
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
"""Fields that the fast path understands; a request with any other goes to vLLM's own route."""


class TokenFastPath:
    """ASGI middleware that answers completions of token ids from vLLM's engine directly."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._numbers = count()

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Answer the request or pass it on unchanged."""
        if scope["type"] != "http" or scope["path"] != "/v1/completions":
            await self._app(scope, receive, send)
            return
        messages = [message async for message in _body(receive)]
        request = _request(b"".join(message.get("body", b"") for message in messages))
        if request is None:
            await self._app(scope, _replayed(messages, receive), send)
            return
        answer = asyncio.ensure_future(self._complete(scope["app"].state.engine_client, request))
        # The body was read to its end, so the next message can only say that the client is gone.
        disconnect = asyncio.ensure_future(receive())
        await asyncio.wait([answer, disconnect], return_when=asyncio.FIRST_COMPLETED)
        disconnect.cancel()
        if not answer.done():
            answer.cancel()  # makes vLLM abort the request
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
    """The request, or None if it is for vLLM's own route, which also reports its errors."""
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
