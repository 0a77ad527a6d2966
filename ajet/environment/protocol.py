"""The HTTP protocol between a run and an environment service: what a body says.

Every call is a POST with a JSON body of the fields of `Request`. The answer is a JSON object whose
`data` holds task ids (`/get_env_profile`), a state (`/create`, `/step`) or a number (`/evaluate`).

Three additions, which a service or a client that does not know them ignores:

- The header `Idempotency-Key` names a call. A service that has it answers a repeated call as it
  answered the first, so that a step whose answer was lost can be sent again.
- `info.accepts_idempotency_key` in the answer to `/create` says that the service does so.
- `info.lease_s` there says after how many seconds without a call the service releases the
  instance; `/get_info` with its `instance_id` counts as a call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ajet.environment.messages import Message, as_messages, finite, text_of

GET_ENV_PROFILE = "/get_env_profile"
GET_INFO = "/get_info"
CREATE = "/create"
STEP = "/step"
EVALUATE = "/evaluate"
RELEASE = "/release"

LOOPBACK = ("localhost", "127.0.0.1", "::1")

IDEMPOTENCY_KEY = "Idempotency-Key"
API_KEY_VARIABLE = "AJET_ENVIRONMENT_KEY"
"""Environment variable with the key that a service asks for and a run sends."""


class ServiceRequest(BaseModel):
    """The body of every call."""

    model_config = ConfigDict(extra="ignore")

    env_type: str | None = None
    task_id: str | int | None = None
    instance_id: str | None = None
    messages: Message | list[Message] | None = Field(default_factory=dict)
    """For `/step`: the action, one message."""
    params: dict[str, Any] | None = Field(default_factory=dict)


@dataclass(slots=True, kw_only=True, frozen=True)
class State:
    """What an instance shows after `/create` or `/step`."""

    messages: list[Message]
    reward: float | None = None
    """None after `/create`, where the service may leave it out."""
    is_terminated: bool = False
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The messages' text."""
        return text_of(self.messages)


def read_task_ids(data: Any) -> list[str]:
    """The ids in the answer to `/get_env_profile`.

    Raises:
        ValueError: `data` is something else.
    """
    if not isinstance(data, list) or not all(type(one) in (str, int) for one in data):
        raise ValueError(f"data: got {type(data).__name__}, expected a list of task ids")
    if "" in data:
        raise ValueError("data: a task id is empty")
    return [str(one) for one in data]


def read_state(data: Any, *, of_step: bool) -> State:
    """The state in an answer; after a step, reward and `is_terminated` must be there.

    Raises:
        ValueError: the answer is not a state.
    """
    if not isinstance(data, dict):
        raise ValueError(f"data: got {type(data).__name__}, expected an object")
    state = data.get("state")
    if isinstance(state, dict) and "content" not in state and "error" in state:
        raise ValueError(f"the environment reports an error: {state['error']}")
    if state is None or state == []:
        raise ValueError("data.state: there is none")
    info = data.get("info")
    if not isinstance(info, dict | None):
        raise ValueError(f"data.info: got {type(info).__name__}, expected an object")
    is_terminated = data.get("is_terminated", None if of_step else False)
    if not isinstance(is_terminated, bool):
        raise ValueError(f"data.is_terminated: got {is_terminated!r}, expected true or false")
    return State(
        messages=as_messages(state),
        reward=finite(data.get("reward"), "data.reward") if of_step else None,
        is_terminated=is_terminated,
        info=info or {},
    )
