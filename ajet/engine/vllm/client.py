"""A client for one vLLM server: token ids in and out, over its OpenAI-compatible API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from ajet.engine.base import OnToken
from ajet.errors import AjetError, EngineError, RequestError
from ajet.schema.episode import Generation, SamplingParams

EXTENSION = "ajet.engine.vllm.worker.PolicyWorker"
"""Value of vLLM's `--worker-extension-cls` with which a server can take new weights."""

_COMPLETIONS = "/v1/completions"
_REASONS = {"stop": "stop", "length": "length"}


class ServerLost(EngineError):
    """The server does not answer, or answers with a server error."""


class VllmClient:
    """Talks to one server. Create it on the event loop that awaits its methods.

    Args:
        base_url: with or without `/v1`.
        api_key: None if the server needs none.
        keepalive_s: how long an idle connection is reused. It must be shorter than the server's
            keep-alive time, else the server may close a connection just when it is reused.
    """

    def __init__(self, base_url: str, api_key: str | None, keepalive_s: float = 2.0) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self.model = ""
        self.max_model_len = 0
        # Not httpx: with many open connections it takes ten times the CPU time per call.
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            # The gateway limits the duration of calls; here only connecting is limited.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def connect(self) -> None:
        """Ask the server for its model's name and context length.

        Raises:
            EngineError: the server does not list a model.
        """
        listed = (await self._request("GET", "/v1/models"))["data"]
        self.model = listed[0]["id"]
        self.max_model_len = listed[0]["max_model_len"]

    async def check_extension(self) -> None:
        """Check that the server runs our worker extension, and prepare its sampler.

        Raises:
            EngineError: the server was started without the extension.
        """
        # Its configuration tells. Calling a method that is missing would crash vLLM's engine.
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
            ServerLost: the server is lost; another one may answer.
            RequestError: the server refuses these parameters.
            EngineError: the server refuses the key, or its answer is not as expected.
        """
        answer = await self._request("POST", _COMPLETIONS, self._body(prompt_ids, params, max_new))
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
        """Sample one completion and call `on_token` with each token as it comes.

        Raises:
            ServerLost: the server is lost; another one may answer.
            RequestError: the server refuses these parameters.
            EngineError: the server refuses the key, or its answer is not as expected.
        """
        body = self._body(prompt_ids, params, max_new) | {"stream": True}
        generation, finished = Generation(), None
        try:
            async with self._http.post(self.base_url + _COMPLETIONS, json=body) as response:
                if response.status != HTTPStatus.OK:
                    text = await response.text()
                    raise _status_error(self.base_url, _COMPLETIONS, response.status, text)
                async for line in response.content:
                    data = line.decode().removeprefix("data: ").strip()
                    if not data or data == "[DONE]":
                        continue
                    event = json.loads(data)
                    if "error" in event:
                        raise ServerLost(f"{self.base_url}: {event['error']}")
                    for choice in event["choices"]:
                        emitted = len(generation.token_ids)
                        _append(generation, choice, version)
                        for token, logprob in zip(
                            generation.token_ids[emitted:],
                            generation.logprobs[emitted:],
                            strict=True,
                        ):
                            on_token(token, logprob)
                        finished = choice["finish_reason"] or finished
        except aiohttp.ClientError as error:
            raise ServerLost(f"{self.base_url}: {_words(error)}") from error
        generation.finish_reason = _finish_reason(finished)
        return generation

    async def prompt_logprobs(self, prompt_ids: Sequence[int]) -> list[float]:
        """[L - 1] logprob of each id but the first, given the ids before it."""
        params = SamplingParams(max_tokens=1, temperature=0.0)
        body = self._body(prompt_ids, params, 1) | {"prompt_logprobs": 0}
        answer = await self._request("POST", _COMPLETIONS, body)
        given = answer["choices"][0]["prompt_logprobs"][1:]
        pairs = zip(prompt_ids[1:], given, strict=True)
        return [entry[str(token)]["logprob"] for token, entry in pairs]

    async def load_weights(self, folder: Path) -> None:
        """Load the weights in a folder's safetensors files and drop all cached key-values.

        Raises:
            EngineError: the weights were not loaded.
        """
        await self._rpc("ajet_load_weights", weights=str(folder))
        reset = await self._request("POST", "/reset_prefix_cache")
        if not reset["success"]:
            raise EngineError(
                f"{self.base_url} did not drop the key-values of the old weights from its cache"
            )

    async def is_healthy(self) -> bool:
        """Whether the server answers `/health`."""
        timeout = aiohttp.ClientTimeout(total=5.0)
        try:
            async with self._http.get(f"{self.base_url}/health", timeout=timeout) as response:
                return response.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def aclose(self) -> None:
        """Close the connections and abort running requests."""
        await self._http.close()

    def _body(
        self, prompt_ids: Sequence[int], params: SamplingParams, max_new: int
    ) -> dict[str, Any]:
        body = {
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
            "skip_special_tokens": False,  # so that stop strings can match special tokens
            "spaces_between_special_tokens": False,
            "logprobs": 0,  # only that of the sampled token
            "return_token_ids": True,
        }
        if params.grammar is not None:
            body["structured_outputs"] = {"grammar": params.grammar}
        return body

    async def _rpc(self, method: str, **arguments: str) -> None:
        await self._request("POST", "/collective_rpc", {"method": method, "kwargs": arguments})

    async def _request(self, method: str, path: str, body: Any = None) -> Any:
        try:
            async with self._http.request(method, self.base_url + path, json=body) as response:
                content = await response.read()
        except aiohttp.ClientError as error:
            raise ServerLost(f"{self.base_url}: {_words(error)}") from error
        if response.status != HTTPStatus.OK:
            text = content.decode(errors="replace")
            raise _status_error(self.base_url, path, response.status, text)
        return json.loads(content) if content else None


def _append(generation: Generation, choice: dict[str, Any], version: int) -> None:
    ids = choice.get("token_ids")
    if ids is None:
        raise EngineError("the server returns no token ids; vLLM 0.11 or later is needed")
    logprobs = choice["logprobs"]["token_logprobs"] if ids else []
    if len(logprobs) != len(ids):
        raise EngineError(
            f"the server returned {len(logprobs)} logprobs for {len(ids)} token ids; expected one "
            "for each"
        )
    generation.token_ids += ids
    generation.logprobs += logprobs
    generation.policy_versions += [version] * len(ids)


def _finish_reason(given: str | None) -> Any:
    if given not in _REASONS:
        raise ServerLost(f"a completion ended with {given}, expected stop or length")
    return _REASONS[given]


def _status_error(base_url: str, path: str, status: int, text: str) -> AjetError:
    if status == HTTPStatus.UNAUTHORIZED:
        return EngineError(f"{base_url} refuses the key (see ajet.rollout.vllm.api_key_env)")
    if status == HTTPStatus.BAD_REQUEST and path == _COMPLETIONS:
        return RequestError(f"vLLM refuses the request: {_message_in(text)[:500]}")
    error_class = ServerLost if status >= HTTPStatus.INTERNAL_SERVER_ERROR else EngineError
    return error_class(f"{base_url} answered {status}: {text[:500]}")


def _message_in(text: str) -> str:
    """The message of an error in the shape of the OpenAI API, or the whole text."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return text


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
