"""`POST /v1/responses`."""

from __future__ import annotations

from typing import Any

from ajet.tuner.answer import Answer
from ajet.tuner.blocks import block_events
from ajet.tuner.gateway import AgentPort
from ajet.tuner.reply import Reply, event_reply, json_reply
from ajet.tuner.responses_api.body import finished_body, response_id
from ajet.tuner.responses_api.events import ResponseEvents
from ajet.tuner.responses_api.request import (
    own_messages,
    parse_responses_request,
    to_chat_request,
)


async def responses(port: AgentPort, body: Any) -> Reply:
    """Answer one request.

    Raises:
        AjetError: nothing is recorded.
    """
    request = parse_responses_request(body)
    previous = port.stored_turns.find(request.previous_response_id)
    new = own_messages(request)
    chat_request = to_chat_request(request, previous.history() if previous else [], new)
    asked = port.ask(chat_request)

    def finish(answer: Answer) -> dict[str, Any]:
        if request.store is not False:
            messages = [*new, answer.choices[0].message]
            port.stored_turns.add(response_id(asked), previous, messages)
        return finished_body(request, asked, answer)

    if request.stream:
        return event_reply(block_events(port, asked, ResponseEvents(request, asked, finish)))
    return json_reply(finish(await port.answer(asked)))
