"""Players by rule behind an OpenAI-compatible URL: the other side on a CPU.

    python -m tutorial.example_werewolves.scripted_players --port 8088

A player reads its role, its turn and what was said out of the request's messages. It suspects
silence and accusations, trusts a seer, and is a little moody; its mood depends on the messages
only, so a game in which everybody does the same is the same game.
"""

import json
import random
import re
import zlib
from collections import defaultdict
from typing import Any

from tutorial.tiny_models.scripted_server import serve, text_of

MODERATOR = "Moderator: "
SILENT = ("I have nothing to say.", "I suspect nobody.")
MOOD = 2.0
"""Largest random suspicion."""


def take_turn(messages: list[dict[str, Any]]) -> dict[str, str | None]:
    """The turn of the player whose conversation this is."""
    rng = random.Random(zlib.crc32(json.dumps(messages).encode()))
    texts = [text_of(message) for message in messages]
    name, role = re.findall(r"You are (\w+), (\w+)\.", texts[0])[0]
    heard = "\n".join(text for m, text in zip(messages, texts, strict=True) if m["role"] == "user")
    last = [x.removeprefix(MODERATOR) for x in heard.splitlines() if x.startswith(MODERATOR)][-1]
    # Only the moderator is believed: a player may say the same words.
    alive = re.findall(rf"^{MODERATOR}.*Alive: ([\w, ]+)\.$", heard, re.MULTILINE)
    others = [x for x in (alive[-1].split(", ") if alive else []) if x != name]
    if "vote out" in last:
        suspicion = suspicions(name, others, heard)
        return {
            "say": "",
            "choose": max(others, key=lambda x: suspicion[x] + rng.uniform(0, MOOD)),
        }
    if "hoose whom to" in last and ": " in last:
        offered = last.rpartition(": ")[2].rstrip(".").split(", ")
        if "null" in last:
            return {"say": "", "choose": None}
        return {"say": "", "choose": rng.choice(offered)}
    if "to save" in last:
        return {"say": "", "choose": None}
    return {"say": _speech(role, others, heard, rng), "choose": None}


def suspicions(name: str, others: list[str], heard: str) -> dict[str, float]:
    """How much a player suspects each of the others after what it heard."""
    found: dict[str, float] = defaultdict(float)
    seers: list[str] = []
    for speaker, said in re.findall(r"^(\w+): (.*)$", heard, re.MULTILINE):
        about = said.rstrip(".").split(" ")
        if speaker == "Moderator":
            if said.endswith("is a werewolf."):
                found[about[0]] += 100
            elif said.endswith("is no werewolf."):
                found[about[0]] -= 100
        elif not said.strip() or said in SILENT:
            found[speaker] += 1.5
        elif said.startswith("I am the seer."):
            seers.append(speaker)
            weight = 3.0 if len(seers) == 1 else 2.0
            target = about[4] if len(about) > 4 else ""
            found[target] += -2.0 if "no werewolf" in said else weight
            if target == name and "no werewolf" not in said:
                found[speaker] += 4.0
        elif said.startswith(("I suspect", "Let us vote for")):
            found[about[-1]] += 1.0
            found[speaker] += 2.0 * (about[-1] == name)
        elif said.startswith("I trust"):
            found[about[-1]] -= 0.5
    return found


def _speech(role: str, others: list[str], heard: str, rng: random.Random) -> str:
    checked = re.findall(r"^Moderator: (\w+) is (a|no) werewolf\.$", heard, re.MULTILINE)
    if role == "seer" and checked:
        who, what = checked[-1]
        return f"I am the seer. {who} is {what} werewolf."
    suspicion = suspicions("", others, heard)
    who = max(others, key=lambda x: suspicion[x] + rng.uniform(0, MOOD))
    return rng.choice((f"I suspect {who}.", f"I suspect {who}.", "I am a villager."))


if __name__ == "__main__":
    serve(
        lambda messages: json.dumps(take_turn(messages)),
        "Players by rule behind an OpenAI-compatible URL.",
    )
