"""A small world of apps for a CPU: notes, mail and a wallet, twelve documented calls.

Every task gets a world of its own. Mail and wallet want a login with a password, which is in a
note; a login gives a token, which later calls need. What counts is the state of the world at the
end, after which no call changes it.
"""

import ast
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DOCS = {
    "notes": "notes.list() notes.read(title) notes.write(title, text)",
    "mail": "mail.login(password) mail.inbox(token) mail.read(token, sender) "
    "mail.send(token, to, text)",
    "wallet": "wallet.login(password) wallet.balance(token) wallet.send(token, to, amount)",
}
"""What `docs.show(app)` answers; with `docs.show` itself and `complete_task()`, twelve calls."""
MAX_CHARACTERS = 300


class CallError(ValueError):
    """The call is refused; the text is the agent's observation."""


@dataclass(slots=True, kw_only=True)
class State:
    """Everything that calls can read or change."""

    passwords: dict[str, str]
    """App -> password."""
    tokens: dict[str, str]
    """App -> the token that a login gives."""
    notes: dict[str, str]
    inbox: dict[str, str]
    """Sender -> text of the mail."""
    balance: int
    sent_mail: list[tuple[str, str]] = field(default_factory=list)
    """Receiver and text."""
    payments: list[tuple[str, int]] = field(default_factory=list)
    """Receiver and amount."""

    def outcome(self) -> dict[str, Any]:
        """What a task can ask for."""
        return {
            "notes": dict(self.notes),
            "sent_mail": list(self.sent_mail),
            "payments": list(self.payments),
        }


class World:
    """The apps over a state. `call` is the only way in."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.is_complete = False
        self._logged_in: set[str] = set()
        """Apps whose token is valid."""
        self._calls: dict[str, Callable[..., str]] = {
            "docs.show": self._docs_show,
            "notes.list": lambda: ", ".join(sorted(state.notes)),
            "notes.read": lambda title: self._known(state.notes, title, "note"),
            "notes.write": self._notes_write,
            "mail.login": lambda password: self._login("mail", password),
            "mail.inbox": self._mail_inbox,
            "mail.read": self._mail_read,
            "mail.send": self._mail_send,
            "wallet.login": lambda password: self._login("wallet", password),
            "wallet.balance": self._wallet_balance,
            "wallet.send": self._wallet_send,
            "complete_task": self._complete,
        }

    def call(self, text: str) -> str:
        """Run one call that an agent wrote, with literals as arguments.

        Raises:
            CallError: it is no such call, or the app refuses it.
        """
        name, arguments = read_call(text)
        if self.is_complete:
            raise CallError("error: the task is complete")
        if name not in self._calls:
            raise CallError(f"error: there is no {name}")
        try:
            return self._calls[name](*arguments)
        except TypeError:
            raise CallError(f"error: wrong arguments for {name}") from None

    def _docs_show(self, app: str) -> str:
        return self._known(DOCS, app, "app")

    def _known(self, things: dict[str, str], name: str, kind: str) -> str:
        if not isinstance(name, str) or name not in things:
            raise CallError(f"error: there is no {kind} {name}")
        return things[name]

    def _login(self, app: str, password: str) -> str:
        if password != self.state.passwords[app]:
            raise CallError("error: wrong password")
        self._logged_in.add(app)
        return f"token {self.state.tokens[app]}"

    def _check(self, app: str, token: str) -> None:
        if app not in self._logged_in or token != self.state.tokens[app]:
            raise CallError("error: wrong token")

    def _notes_write(self, title: str, text: str) -> str:
        self.state.notes[_name(title, "notes.write")] = _text(text, "notes.write")
        return "ok"

    def _mail_inbox(self, token: str) -> str:
        self._check("mail", token)
        return ", ".join(self.state.inbox)

    def _mail_read(self, token: str, sender: str) -> str:
        self._check("mail", token)
        return self._known(self.state.inbox, sender, "mail from")

    def _mail_send(self, token: str, to: str, text: str) -> str:
        self._check("mail", token)
        self.state.sent_mail.append((_name(to, "mail.send"), _text(text, "mail.send")))
        return "ok"

    def _wallet_balance(self, token: str) -> str:
        self._check("wallet", token)
        return str(self.state.balance)

    def _wallet_send(self, token: str, to: str, amount: int) -> str:
        self._check("wallet", token)
        to = _name(to, "wallet.send")
        if type(amount) is not int or not 0 < amount <= self.state.balance:
            raise CallError("error: not possible with this balance")
        self.state.balance -= amount
        self.state.payments.append((to, amount))
        return "ok"

    def _complete(self) -> str:
        self.is_complete = True
        return "bye"


def _name(value: Any, call: str) -> str:
    if not isinstance(value, str):
        raise CallError(f"error: wrong arguments for {call}")
    return value


def _text(value: Any, call: str) -> str:
    """A text, or a whole number, which models write without quotes."""
    return _name(str(value) if type(value) is int else value, call)


def read_call(text: str) -> tuple[str, list[Any]]:
    """The name and the arguments of a call; the text is parsed, and nothing of it is executed.

    Raises:
        CallError: the text is no single call with literals as arguments.
    """
    code = text.strip().removeprefix("```python").removeprefix("```").removesuffix("```").strip()
    error = CallError("error: expected one call, like app.name(argument)")
    if len(code) > MAX_CHARACTERS:
        raise error
    try:
        node = ast.parse(code, mode="eval").body
        if not isinstance(node, ast.Call) or node.keywords:
            raise error
        arguments = [ast.literal_eval(argument) for argument in node.args]
        "".join(value for value in arguments if isinstance(value, str)).encode()  # no surrogates
        return ast.unparse(node.func), arguments
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise error from None


def make_state(rng: random.Random, people: tuple[str, ...]) -> State:
    """A world with passwords, some notes and one mail of each person."""
    passwords = {app: _secret(rng) for app in ("mail", "wallet")}
    return State(
        passwords=passwords,
        tokens={app: _secret(rng) for app in ("mail", "wallet")},
        notes={
            "passwords": f"mail {passwords['mail']} wallet {passwords['wallet']}",
            "code": str(rng.randint(100, 999)),
        },
        inbox={who: f"please pay me {rng.randint(10, 60)}" for who in rng.sample(people, 3)},
        balance=rng.randint(60, 99),
    )


def _secret(rng: random.Random) -> str:
    return f"{rng.choice('kqxz')}{rng.randint(100, 999)}"
