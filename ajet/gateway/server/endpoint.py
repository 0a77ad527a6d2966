"""Serves one request: key, place, body, answer. The ASGI end of every route."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.errors import RequestError
from ajet.gateway.apis.routes import Reply, error_reply, respond
from ajet.gateway.server.admission import RETRY_AFTER_S, Admission
from ajet.gateway.server.asgi_request import AsgiClient, ClientLeft
from ajet.gateway.server.keys import Grant, KeyRing, unknown_key


class Endpoint:
    """What is refused is refused as early as it can be known, and leaves no trace."""

    def __init__(
        self, keys: KeyRing, admission: Admission, settings: InterchangeServerConfig
    ) -> None:
        self._keys = keys
        self._admission = admission
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        client = AsgiClient(scope, receive, send, self._settings)
        try:
            grant = self._keys.find(scope["headers"])
            with self._admission.enter():
                body = await client.read_body()
                await self._answer(client, grant, body)
        except RequestError as error:
            await client.refuse(refusal(client.path, error))
        except ClientLeft:
            await client.drop()

    async def _answer(self, client: AsgiClient, grant: Grant, body: bytes) -> None:
        """Answer, unless the client leaves, the episode ends or the server stops before that."""
        work = asyncio.create_task(self._work(client, grant, body))
        gone = asyncio.create_task(client.gone())
        try:
            with grant.held_by(work):
                await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # uvicorn's, when the time for draining is over
            if client.answer_started:
                raise ClientLeft from None
            raise RequestError("the server is stopping", status=503) from None
        finally:
            gone.cancel()
            work.cancel()
        await asyncio.wait((work,))
        if not work.cancelled():
            work.result()
        elif grant.is_revoked and not client.answer_started:
            raise unknown_key()
        else:
            raise ClientLeft

    async def _work(self, client: AsgiClient, grant: Grant, body: bytes) -> None:
        async with self._admission.turn():
            reply = await respond(grant.port, client.method, client.path, body)
            await client.answer(reply)


def refusal(path: str, error: RequestError) -> Reply:
    """An error of the server's own, in the shape of the path's API."""
    reply = error_reply(path, error)
    if reply.status == 429:
        reply.headers["retry-after"] = str(RETRY_AFTER_S)
    if reply.status == 401:
        reply.headers["www-authenticate"] = "Bearer"
    return reply
