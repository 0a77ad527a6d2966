"""`POST /v1/messages`."""

from __future__ import annotations

from typing import Any

from ajet.gateway.apis.block_stream import block_events
from ajet.gateway.apis.messages.body import message_body
from ajet.gateway.apis.messages.events import MessageEvents
from ajet.gateway.apis.messages.request import to_chat_request
from ajet.gateway.gateway import AgentSession
from ajet.gateway.reply import Reply, event_reply, json_reply


async def messages(port: AgentSession, body: Any) -> Reply:
    """Answer one request.

    Raises:
        AjetError: nothing is recorded.
    """
    request = to_chat_request(body)
    asked = port.ask(request)
    if request.stream:
        return event_reply(block_events(port, asked, MessageEvents(asked)))
    return json_reply(message_body(await port.answer(asked)))
