"""One player: an AgentScope agent that answers every turn in one JSON shape."""

from typing import Any

from agentscope.agent import AgentBase
from agentscope.message import Msg
from pydantic import BaseModel, Field, ValidationError

TIPS = {
    "werewolf": "At night the werewolves kill one player. By day, do not be found out.",
    "villager": "You know nothing but what is said. Find the werewolves and vote them out.",
    "seer": "Each night you check one player. Use what you know by day.",
    "witch": "You can once save the player who was killed, and once poison one.",
    "hunter": "When you die, you take one player with you.",
}


class Turn(BaseModel):
    """What a player does in a turn."""

    say: str = Field(description="What everybody hears; empty at night and in a vote.")
    choose: str | None = Field(description="The name of a player, or null.")


_SCHEMA = {**Turn.model_json_schema(), "additionalProperties": False}
TURN_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {"schema": _SCHEMA, "name": "Turn", "strict": True},
}
"""Asks for a `Turn`. AgentScope's own `structured_model` would do so as well, but after the first
answer that is no turn it asks for a tool call instead, in that turn and in all later ones."""


def role_sheet(name: str, role: str, fellows: list[str]) -> str:
    """The system prompt of a player."""
    lines = [
        "You play Werewolf. The werewolves win when they are as many as the others.",
        "The others win when no werewolf is left.",
        f"You are {name}, {role}.",
        TIPS[role],
    ]
    if fellows:
        lines.append(f"The other werewolves: {', '.join(fellows)}.")
    return "\n".join(lines)


class Player(AgentBase):
    """Hears what the others say, and answers when it is its turn."""

    def __init__(self, name: str, sheet: str, model: Any) -> None:
        super().__init__()
        self.name = name
        self.model = model
        self.messages: list[dict[str, str]] = [{"role": "system", "content": sheet}]
        """The player's conversation in OpenAI's format: others are the user."""
        self.last_turn = Turn(say="", choose=None)
        self.set_console_output_enabled(False)

    async def observe(self, msg: Msg | list[Msg] | None) -> None:
        """Hear messages. Those between two turns of the player become one message."""
        for one in msg if isinstance(msg, list) else [msg] if msg else []:
            line = f"{one.name}: {one.get_text_content()}"
            if self.messages[-1]["role"] == "user":
                self.messages[-1]["content"] += f"\n{line}"
            else:
                self.messages.append({"role": "user", "content": line})

    async def reply(self, msg: Msg | None = None) -> Msg:
        """Take a turn. What the player says is broadcast by the hub that it is in.

        If the answer cannot be read as a `Turn`, the player says nothing and chooses nobody.
        """
        await self.observe(msg)
        response = await self.model(self.messages, response_format=TURN_FORMAT)
        text = "".join(block["text"] for block in response.content if block["type"] == "text")
        try:
            self.last_turn = Turn.model_validate_json(text)
        except ValidationError:
            self.last_turn = Turn(say="", choose=None)
        answer = self.last_turn.model_dump_json()
        self.messages.append({"role": "assistant", "content": answer})
        # One line, whatever was said: a second one could pass for the moderator's.
        return Msg(self.name, " ".join(self.last_turn.say.split()), "assistant")

    async def handle_interrupt(self, *args: Any, **kwargs: Any) -> Msg:
        """A turn that is interrupted says nothing."""
        return Msg(self.name, "", "assistant")
