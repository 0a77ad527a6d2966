"""One vLLM server, as token ids in and out of its OpenAI API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from ajet.engine.base import OnToken
from ajet.errors import EngineError
from ajet.schema.generation import Generation, SamplingParams

EXTENSION = "ajet.engine.vllm.worker.PolicyWorker"
"""What a server needs as `--worker-extension-cls`, to take new weights."""

_REASONS = {"stop": "stop", "length": "length"}


class ServerLost(EngineError):
    """The server does not answer, or not as one that is alive."""


class VllmClient:
    """Speaks to one server. It is made on an event loop, and all methods belong to that one.

    Args:
        base_url: with `/v1` or without.
        api_key: None where the server wants none.
        keepalive_s: a connection that nothing came over for so long is not used again; less than
            the server's time, which must not close one that is about to be used.
    """

    def __init__(self, base_url: str, api_key: str | None, keepalive_s: float = 2.0) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self.model = ""
        self.max_model_len = 0
        # Not httpx, which takes ten times the CPU time a call with many connections open.
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            # The gateway has a deadline for calls; here only what never came up is given up.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def connect(self) -> None:
        """Learn which model it serves.

        Raises:
            EngineError: it does not list a model.
        """
        listed = (await self._request("GET", "/v1/models"))["data"]
        self.model = listed[0]["id"]
        self.max_model_len = listed[0]["max_model_len"]

    async def check_extension(self) -> None:
        """Ask for what only our worker extension has; a call of what is not there would kill it.

        Raises:
            EngineError: the server was started without it.
        """
        try:
            info = await self._request("GET", "/server_info?config_format=json")
        except ServerLost:
            raise
        except EngineError:
            info = {}
        if EXTENSION not in json.dumps(info):
            raise EngineError(
                f"{self.base_url} cannot take new weights: start it with VLLM_SERVER_DEV_MODE=1, "
                f"`--worker-extension-cls {EXTENSION}` and agentjet importable there"
            )
        await self._rpc("ajet_prepare")

    async def complete(
        self, prompt_ids: Sequence[int], params: SamplingParams, max_new: int, version: int
    ) -> Generation:
        """Sample one completion.

        Raises:
            ServerLost: it may be tried elsewhere.
            EngineError: the server refused it.
        """
        answer = await self._request(
            "POST", "/v1/completions", self._body(prompt_ids, params, max_new)
        )
        choice = answer["choices"][0]
        generation = Generation(finish_reason=_finish_reason(choice["finish_reason"]))
        _append(generation, choice, version)
        return generation

    async def stream(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        max_new: int,
        version: int,
        on_token: OnToken,
    ) -> Generation:
        """The same, telling of each token as it comes."""
        body = self._body(prompt_ids, params, max_new) | {"stream": True}
        generation, finished = Generation(), None
        try:
            async with self._http.post(f"{self.base_url}/v1/completions", json=body) as response:
                if response.status != HTTPStatus.OK:
                    raise _refusal(self.base_url, response.status, await response.text())
                async for line in response.content:
                    data = line.decode().removeprefix("data: ").strip()
                    if not data or data == "[DONE]":
                        continue
                    event = json.loads(data)
                    if "error" in event:
                        raise ServerLost(f"{self.base_url}: {event['error']}")
                    for choice in event["choices"]:
                        told = len(generation.token_ids)
                        _append(generation, choice, version)
                        for token, logprob in zip(
                            generation.token_ids[told:], generation.logprobs[told:], strict=True
                        ):
                            on_token(token, logprob)
                        finished = choice["finish_reason"] or finished
        except aiohttp.ClientError as error:
            raise ServerLost(f"{self.base_url}: {_words(error)}") from error
        generation.finish_reason = _finish_reason(finished)
        return generation

    async def prompt_logprobs(self, prompt_ids: Sequence[int]) -> list[float]:
        """[L - 1] natural log of each id but the first, given those before it."""
        params = SamplingParams(max_tokens=1, temperature=0.0)
        body = self._body(prompt_ids, params, 1) | {"prompt_logprobs": 0}
        answer = await self._request("POST", "/v1/completions", body)
        given = answer["choices"][0]["prompt_logprobs"][1:]
        pairs = zip(prompt_ids[1:], given, strict=True)
        return [entry[str(token)]["logprob"] for token, entry in pairs]

    async def load_weights(self, folder: Path) -> None:
        """Replace the weights by those in the folder's safetensors files; forget all key-values.

        Raises:
            EngineError: they were not loaded.
        """
        await self._rpc("ajet_load_weights", weights=str(folder))
        reset = await self._request("POST", "/reset_prefix_cache")
        if not reset["success"]:
            raise EngineError(f"{self.base_url} keeps key-values of the old weights")

    async def is_healthy(self) -> bool:
        """Whether it answers `/health`."""
        timeout = aiohttp.ClientTimeout(total=5.0)
        try:
            async with self._http.get(f"{self.base_url}/health", timeout=timeout) as response:
                return response.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def aclose(self) -> None:
        """Close its connections; what is under way is aborted."""
        await self._http.close()

    def _body(
        self, prompt_ids: Sequence[int], params: SamplingParams, max_new: int
    ) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": list(prompt_ids),
            "max_tokens": max_new,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "seed": params.seed,
            "stop_token_ids": list(params.stop_token_ids),
            "stop": list(params.stop),
            "ignore_eos": True,  # only what the request names ends a completion
            "skip_special_tokens": False,  # stop strings are looked for in all of the text
            "spaces_between_special_tokens": False,
            "logprobs": 0,  # of the sampled token alone
            "return_token_ids": True,
        }

    async def _rpc(self, method: str, **arguments: str) -> None:
        await self._request("POST", "/collective_rpc", {"method": method, "kwargs": arguments})

    async def _request(self, method: str, path: str, body: Any = None) -> Any:
        try:
            async with self._http.request(method, self.base_url + path, json=body) as response:
                content = await response.read()
        except aiohttp.ClientError as error:
            raise ServerLost(f"{self.base_url}: {_words(error)}") from error
        if response.status != HTTPStatus.OK:
            raise _refusal(self.base_url, response.status, content.decode(errors="replace"))
        return json.loads(content) if content else None


def _append(generation: Generation, choice: dict[str, Any], version: int) -> None:
    ids = choice.get("token_ids")
    if ids is None:
        raise EngineError("the server returns no token ids: it is no vLLM of 0.11 or later")
    logprobs = choice["logprobs"]["token_logprobs"] if ids else []
    if len(logprobs) != len(ids):
        raise EngineError(f"the server gave {len(ids)} token ids and {len(logprobs)} logprobs")
    generation.token_ids += ids
    generation.logprobs += logprobs
    generation.policy_versions += [version] * len(ids)


def _finish_reason(given: str | None) -> Any:
    if given not in _REASONS:
        raise ServerLost(f"a completion ended with {given}")
    return _REASONS[given]


def _refusal(base_url: str, status: int, text: str) -> EngineError:
    kind = ServerLost if status >= HTTPStatus.INTERNAL_SERVER_ERROR else EngineError
    if status == HTTPStatus.UNAUTHORIZED:
        return EngineError(f"{base_url} refuses the key (see ajet.rollout.vllm.api_key_env)")
    return kind(f"{base_url} answered {status}: {text[:500]}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
