"""Normalizes answers as people and models write them, so that they can be compared."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, localcontext

_SYMBOLS = str.maketrans(
    {
        "π": r"\pi ",
        "∞": r"\infty ",
        "√": r"\sqrt ",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "²": "^2",
        "³": "^3",
        "−": "-",
        "–": "-",
        "\u00a0": " ",
        "\u202f": " ",
    }
)
_LEAD_IN = re.compile(r".*(?:####|\banswer\s+is\b|\banswer\s*:)[\s:]*", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"\$?\s*(-?)\s*(\d+|\d{1,3}(?:[, ]\d{3})+)(\.\d+)?")
_CALCULATION = re.compile(r"[\d)]\s*(?:[-+*]|\\times|\\cdot)\s*(?!10\s*\^)[\d(]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_IN_MATH_MODE = re.compile(r"\$|\\\(|\\\[|\\boxed")


def stated_answer(text: str) -> str:
    r"""The text after the last "####", "Answer:" or "answer is", without decoration.

    Symbols are replaced by their LaTeX names: "π" and "\pi" are the same answer.
    """
    text = unicodedata.normalize("NFC", text).translate(_SYMBOLS)
    return _LEAD_IN.sub("", text, count=1).strip().strip("*").rstrip(".").strip()


def plain_number(answer: str) -> Decimal | None:
    """The value of an answer that is only a decimal number, to six decimal places; else None."""
    match = _NUMBER.fullmatch(answer)
    if match is None:
        return None
    sign, whole, fraction = match.groups(default="")
    text = sign + re.sub("[, ]", "", whole) + fraction
    with localcontext(prec=len(text) + 6):  # the usual 28 digits do not hold every answer
        return round(Decimal(text), 6)


def is_unevaluated(answer: str) -> bool:
    """Whether it still has to be calculated: "7 - 3", but not "7 - 3 = 4" or "2 * 10^3"."""
    return "=" not in answer and _CALCULATION.search(answer) is not None


def in_math_mode(answer: str) -> str:
    r"""Put a bare formula in dollar signs: without them, math-verify reads `2\pi` as 2."""
    if _IN_MATH_MODE.search(answer) or _WORD.search(answer):
        return answer
    return f"${answer}$"
