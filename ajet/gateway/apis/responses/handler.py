"""`POST /v1/responses`."""

from __future__ import annotations

from typing import Any

from ajet.gateway.apis.block_stream import block_events
from ajet.gateway.apis.responses.body import finished_body, response_id
from ajet.gateway.apis.responses.events import ResponseEvents
from ajet.gateway.apis.responses.request import (
    own_messages,
    parse_responses_request,
    to_chat_request,
)
from ajet.gateway.completion import Completion
from ajet.gateway.gateway import AgentSession
from ajet.gateway.reply import Reply, event_reply, json_reply


async def responses(port: AgentSession, body: Any) -> Reply:
    """Answer one request.

    Raises:
        AjetError: nothing is recorded.
    """
    request = parse_responses_request(body)
    previous = port.stored_turns.find(request.previous_response_id)
    new = own_messages(request)
    chat_request = to_chat_request(request, previous.history() if previous else [], new)
    asked = port.ask(chat_request)

    def finish(answer: Completion) -> dict[str, Any]:
        if request.store is not False:
            messages = [*new, answer.choices[0].message]
            port.stored_turns.add(response_id(asked), previous, messages)
        return finished_body(request, asked, answer)

    if request.stream:
        return event_reply(block_events(port, asked, ResponseEvents(request, asked, finish)))
    return json_reply(finish(await port.answer(asked)))
