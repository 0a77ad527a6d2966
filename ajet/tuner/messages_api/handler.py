"""`POST /v1/messages`."""

from __future__ import annotations

from typing import Any

from ajet.tuner.blocks import block_events
from ajet.tuner.gateway import AgentPort
from ajet.tuner.messages_api.body import message_body
from ajet.tuner.messages_api.events import MessageEvents
from ajet.tuner.messages_api.request import to_chat_request
from ajet.tuner.reply import Reply, event_reply, json_reply


async def messages(port: AgentPort, body: Any) -> Reply:
    """Answer one request.

    Raises:
        AjetError: nothing is recorded.
    """
    request = to_chat_request(body)
    asked = port.ask(request)
    if request.stream:
        return event_reply(block_events(port, asked, MessageEvents(asked)))
    return json_reply(message_body(await port.answer(asked)))
