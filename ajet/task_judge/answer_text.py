"""Answers as people and models write them, brought into one form."""

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
    r"""What stands after the last "####", "Answer:" or "answer is", without decoration.

    Signs that have a LaTeX name get it: "π" and "\pi" are one answer.
    """
    text = unicodedata.normalize("NFC", text).translate(_SYMBOLS)
    return _LEAD_IN.sub("", text, count=1).strip().strip("*").rstrip(".").strip()


def plain_number(answer: str) -> Decimal | None:
    """The value of an answer that is a decimal number and nothing else, to six digits."""
    match = _NUMBER.fullmatch(answer)
    if match is None:
        return None
    sign, whole, fraction = match.groups(default="")
    text = sign + re.sub("[, ]", "", whole) + fraction
    with localcontext(prec=len(text) + 6):  # the usual 28 digits do not hold every answer
        return round(Decimal(text), 6)


def is_unevaluated(answer: str) -> bool:
    """It still has to be calculated: "7 - 3", but not "7 - 3 = 4" and not "2 * 10^3"."""
    return "=" not in answer and _CALCULATION.search(answer) is not None


def in_math_mode(answer: str) -> str:
    r"""A bare formula in dollar signs: without them, math-verify reads `2\pi` as the number 2."""
    if _IN_MATH_MODE.search(answer) or _WORD.search(answer):
        return answer
    return f"${answer}$"
