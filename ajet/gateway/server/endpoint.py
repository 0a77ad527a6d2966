"""The ASGI endpoint of every route: checks the key, admits the request, reads it, answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import RequestError
from ajet.gateway.apis.routes import error_reply, respond
from ajet.gateway.completion import Reply
from ajet.gateway.gateway import AgentSession
from ajet.gateway.server.admission import RETRY_AFTER_S, Admission
from ajet.gateway.server.asgi_request import AsgiRequest, ClientDisconnected
from ajet.gateway.server.keys import Grant, KeyRing, unknown_key

Answer = Callable[[AgentSession, str, str, bytes], Awaitable[Reply]]
"""Answers a request of a session, from its method, path and body."""


class Endpoint:
    """Serves requests; each is refused as early as possible, and then leaves no trace."""

    def __init__(
        self,
        keys: KeyRing,
        admission: Admission,
        settings: InterchangeServerConfig,
        answer: Answer = respond,
    ) -> None:
        self._respond = answer
        self._keys = keys
        self._admission = admission
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = AsgiRequest(scope, receive, send, self._settings)
        try:
            grant = self._keys.find(scope["headers"])
            with self._admission.enter():
                body = await request.read_body()
                await self._answer(request, grant, body)
        except RequestError as error:
            await request.refuse(server_error_reply(request.path, error))
        except ClientDisconnected:
            await request.abort()

    async def _answer(self, request: AsgiRequest, grant: Grant, body: bytes) -> None:
        """Answer, unless the client disconnects, the episode ends or the server stops first."""
        work = asyncio.create_task(self._work(request, grant, body))
        gone = asyncio.create_task(request.wait_for_disconnect())
        try:
            with grant.held_by(work):
                await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # by uvicorn, when the time for draining is over
            if request.answer_started:
                raise ClientDisconnected from None
            raise RequestError("the server is stopping", status=503) from None
        finally:
            gone.cancel()
            work.cancel()
        # The cancelled work still has to end: it may be sending at this moment.
        await asyncio.wait((work,))
        if not work.cancelled():
            work.result()
        elif grant.is_revoked and not request.answer_started:
            raise unknown_key()
        else:
            raise ClientDisconnected

    async def _work(self, request: AsgiRequest, grant: Grant, body: bytes) -> None:
        async with self._admission.turn():
            reply = await self._respond(grant.session, request.method, request.path, body)
            await request.send_reply(reply)


def server_error_reply(path: str, error: RequestError) -> Reply:
    """An error of the server itself in the shape of the path's API."""
    reply = error_reply(path, error)
    if reply.status == 429:
        reply.headers["retry-after"] = str(RETRY_AFTER_S)
    if reply.status == 401:
        reply.headers["www-authenticate"] = "Bearer"
    return reply
