"""Text of a run as HTML: everything escaped, and what cannot be seen written out."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters, marks that change the direction or have no width, lone surrogates."""


class Html(str):
    """Markup that is ready to stand in a page; any other string is escaped first."""

    __slots__ = ()


def text_as_html(text: str) -> Html:
    """Escaped, with escapes in place of what could not be seen."""
    pieces, end = [], 0
    for match in _HIDDEN.finditer(text):
        pieces.append(html.escape(text[end : match.start()]))
        pieces.append(f'<span class="escape">{_escape_of(match[0])}</span>')
        end = match.end()
    return Html("".join([*pieces, html.escape(text[end:])]))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element; `class_` is its class; children that are not `Html` are escaped."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """One after the other."""
    return Html("".join(c if isinstance(c, Html) else text_as_html(str(c)) for c in children))


def attribute(value: object) -> str:
    """As the value of an attribute."""
    return html.escape(_HIDDEN.sub(lambda match: _escape_of(match[0]), str(value)))


def _escape_of(character: str) -> str:
    code = ord(character)
    if character == "\r":
        return "\\r"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\u{{{code:x}}}"
