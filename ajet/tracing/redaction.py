"""Takes secrets and personal data out of logged tasks, before anything is written or sent.

Each pattern is looked for in every text of a task: query, messages, answer, tools.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from ajet.boundary import caught_error
from ajet.class_path import class_path_in, load_function
from ajet.config.sections.tracing import REDACTIONS
from ajet.errors import DataError
from ajet.schema.task import Task

KEY = "ajet.task_reader.tracing.redaction"

Redact = Callable[[str], str]

SECRETS = re.compile(
    r"""
      \b(?:sk|rk|pk)-(?:[A-Za-z]+-)*[A-Za-z0-9_-]{16,}       # OpenAI, Anthropic, Stripe and alike
    | \b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_\w{20,} | \bglpat-[\w-]{16,}
    | \bhf_[A-Za-z0-9]{20,} | \bxox[abeoprs]-[\w-]{10,} | \bnpm_[A-Za-z0-9]{30,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b | \bAIza[\w-]{30,} | \bya29\.[\w-]{20,}
    | \bey[JK][\w-]{8,}\.[\w-]{8,}\.[\w-]*                    # a JSON web token
    | \bSG\.[\w-]{16,}\.[\w-]{16,}
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/_.~=-]{12,}")
IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/:@]+:[^\s/@]+@")
ASSIGNED = re.compile(
    r"""(?ix)
    ( (?: password | passwd | pwd | passphrase | secret | api[_-]?key | access[_-]?key
        | private[_-]?key | (?: access | auth | refresh | session | id | bearer | api ) [_-]? token
        | (?<=["']) token (?=\\*["']) )
      \\* ["']? \s* (?: [:=] | \bis\b ) \s* )
    (?:
        (?P<quote> \\+["'] ) (?: (?! (?P=quote) ) [^\n] ){1,1000} (?P=quote)   # JSON inside of JSON
      | " (?: \\. | [^"\\\n] ){1,1000} "
      | ' (?: \\. | [^'\\\n] ){1,1000} '
      | (?P<open> \\* ["']? ) (?! (?: null | none | true | false ) \b ) [^\s"',;}{)(\[\]\\]{4,}
    )
    """
)
"""A name of a secret, and its value: all of it between quotes, or up to a blank without them."""
EMAILS = re.compile(r"(?i)\b[a-z0-9._%+-]{1,64}@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}\b")
PHONES = re.compile(r"(?<![\w.])(?:\+|00)\d[\d ()./-]{7,17}\d(?!\w)|\(\d{3}\)\s?\d{3}-\d{4}(?!\w)")
ADDRESSES = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
CARDS = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
SECRET_NAMES = re.compile(
    r"(?i)(password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"authorization|(^|[_-])(pwd|token)|(auth|access|refresh|session|id|bearer|api)_?token)$"
)
"""Names of fields whose text is a secret as a whole."""
REMOVED = "[secret]"
KEPT_TEXTS = 1024
"""Redacted texts that are kept in memory."""


def secrets(text: str) -> str:
    """Without keys and passwords of common services, tokens and private keys."""
    text = SECRETS.sub(REMOVED, text)
    text = BEARER.sub(rf"\1 {REMOVED}", text)
    text = IN_URL.sub(rf"\1{REMOVED}@", text)
    return ASSIGNED.sub(_assigned, text)


def _assigned(match: re.Match[str]) -> str:
    """The name with its value replaced, between the same quotes."""
    value = match[0][len(match[1]) :]
    quote = match["quote"] or (value[0] if value[0] in "\"'" and match["open"] is None else "")
    return f"{match[1]}{match['open'] or quote}{REMOVED}{quote}"


def emails(text: str) -> str:
    """Without e-mail addresses."""
    return EMAILS.sub("[email]", text)


def phone_numbers(text: str) -> str:
    """Without phone numbers that begin with a country's code or an area in brackets."""
    return PHONES.sub("[phone number]", text)


def ip_addresses(text: str) -> str:
    """Without IPv4 addresses."""
    return ADDRESSES.sub("[ip address]", text)


def credit_cards(text: str) -> str:
    """Without numbers that are valid ones of credit cards."""
    return CARDS.sub(lambda match: "[card]" if _is_card(match[0]) else match[0], text)


class Redaction:
    """Applies redactions to tasks and counts what they change.

    Args:
        names: names in `REDACTIONS`, or class paths of functions from text to text.

    Raises:
        ConfigError: a function cannot be loaded.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._functions: dict[str, Redact] = {
            name: load_function(class_path_in(REDACTIONS, name, KEY), KEY) for name in names
        }
        self.changed: Counter[str] = Counter()
        """Name -> number of texts that it changed."""
        # The messages of a conversation come again with each of its later calls.
        self._redact = lru_cache(maxsize=KEPT_TEXTS)(self._apply)

    def __call__(self, task: Task) -> Task:
        """The task with every text redacted, and without half surrogate pairs.

        Raises:
            DataError: a function of the user returns no text.
        """
        fields = self._redacted(
            {
                "main_query": task.main_query,
                "init_messages": task.init_messages,
                "metadata": task.metadata,
            }
        )
        return task.model_copy(update=fields)

    def _redacted(self, value: Any, name: str = "") -> Any:
        if isinstance(value, str):
            return self._text(value, name)
        if isinstance(value, list):
            return [self._redacted(item, name) for item in value]
        if isinstance(value, dict):
            return {well_formed(str(key)): self._redacted(x, str(key)) for key, x in value.items()}
        return value

    def _text(self, text: str, name: str) -> str:
        text = well_formed(text)
        if "secrets" in self._functions and SECRET_NAMES.search(name) and text:
            self.changed["secrets"] += 1
            return REMOVED
        text, changed_by = self._redact(text)
        self.changed.update(changed_by)
        return text

    def _apply(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text after all functions, and the names of those that changed it."""
        changed_by = []
        for name, function in self._functions.items():
            with caught_error() as caught:
                redacted: Any = function(text)
            if caught.error:  # the text is a user's: it is not shown
                raise DataError(
                    f"{KEY}: {name} failed: {type(caught.error).__name__}"
                ) from caught.error
            if not isinstance(redacted, str):
                raise DataError(f"{KEY}: {name} returned {redacted!r}, expected a text")
            if redacted != text:
                changed_by.append(name)
            text = redacted
        return text, tuple(changed_by)


def well_formed(text: str) -> str:
    """The text with a replacement character for each half of a surrogate pair."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_card(text: str) -> bool:
    """Whether the digits have the checksum of a card's number (Luhn)."""
    digits = [int(char) for char in text if char.isdigit()][::-1]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
