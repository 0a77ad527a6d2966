"""One vLLM server, as token ids in and out of its OpenAI API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2

from ajet.engine.base import OnToken
from ajet.errors import EngineError
from ajet.schema.generation import Generation, SamplingParams

EXTENSION = "ajet.engine.vllm.worker.PolicyWorker"
"""What a server needs as `--worker-extension-cls`, to take new weights."""

_REASONS = {"stop": "stop", "length": "length"}


class ServerLost(EngineError):
    """The server does not answer, or not as one that is alive."""


class VllmClient:
    """Speaks to one server. All methods belong to one event loop.

    Args:
        base_url: with `/v1` or without.
        api_key: None where the server wants none.
    """

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self.model = ""
        self.max_model_len = 0
        self._http = httpx2.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            # The gateway has a deadline for calls; here only what never came up is given up.
            timeout=httpx2.Timeout(None, connect=10.0),
            # Less than the server's 5 s: it must not close a connection that is about to be used.
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=256, keepalive_expiry=2.0
            ),
            trust_env=False,
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
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                if response.status_code != HTTPStatus.OK:
                    await response.aread()
                    raise _refusal(self.base_url, response)
                async for line in response.aiter_lines():
                    data = line.removeprefix("data: ").strip()
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
        except httpx2.TransportError as error:
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
        try:
            return (await self._http.get("/health", timeout=5.0)).status_code == HTTPStatus.OK
        except httpx2.TransportError:
            return False

    async def aclose(self) -> None:
        """Close its connections; what is under way is aborted."""
        await self._http.aclose()

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
            response = await self._http.request(method, path, json=body)
        except httpx2.TransportError as error:
            raise ServerLost(f"{self.base_url}: {_words(error)}") from error
        if response.status_code != HTTPStatus.OK:
            raise _refusal(self.base_url, response)
        return response.json() if response.content else None


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


def _refusal(base_url: str, response: httpx2.Response) -> EngineError:
    kind = ServerLost if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else EngineError
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        return EngineError(f"{base_url} refuses the key (see ajet.rollout.vllm.api_key_env)")
    return kind(f"{base_url} answered {response.status_code}: {response.text[:500]}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
