"""The contract of a wire API: what a folder in this package must bring.

The gateway has one request of its own (`ChatRequest`) and one answer (`Completion`). A wire API
translates its requests to the first and its answers from the second. `routes.py` does the rest and
has the registry of APIs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from ajet.errors import AjetError
from ajet.gateway.completion import Completion, Delta, PendingRequest
from ajet.gateway.gateway import StoredTurns
from ajet.gateway.request import ChatRequest


class StreamEncoder(Protocol):
    """Turns one streamed answer into server-sent events, each complete with its blank line."""

    def begin(self) -> Iterator[bytes]: ...

    def add(self, item: Delta | Completion) -> Iterator[bytes]:
        """Events for new text, or for the whole completion, which comes last."""
        ...

    def fail(self, error: AjetError) -> Iterator[bytes]: ...


class WireApi(ABC):
    """One request in one wire API. Making the object parses the request."""

    parameters: ClassVar[type[BaseModel]]
    """The body's parameters that are honoured, for the OpenAPI document."""
    without_effect: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Path of each parameter that is accepted and changes nothing ("text.verbosity") -> why."""
    only_counts: ClassVar[bool] = False
    """True: the request is not answered; its prompt's tokens are counted (`token_count`)."""
    chat_request: ChatRequest
    """The request in the gateway's own terms."""

    @abstractmethod
    def __init__(self, body: Any, stored_turns: StoredTurns) -> None:
        """Parse a request's JSON, or raise `RequestError` that names the wrong parameter."""

    @abstractmethod
    def answer(self, pending: PendingRequest, completion: Completion) -> dict[str, Any]:
        """The whole answer as a JSON object."""

    @abstractmethod
    def encoder(self, pending: PendingRequest) -> StreamEncoder:
        """The same answer as a stream."""

    def token_count(self, num_tokens: int) -> dict[str, Any]:
        """The number of the prompt's tokens as a JSON object, where `only_counts` is True."""
        raise NotImplementedError(f"{type(self).__name__} has no token_count()")

    @staticmethod
    @abstractmethod
    def error(error: AjetError) -> tuple[int, dict[str, Any]]:
        """HTTP status and error object."""
