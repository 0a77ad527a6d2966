r"""Reads and checks an answer to a countdown task with a parser; the text is never executed.

    \boxed{(7 + 5) * 3}      uses 3, 5, 7 and makes 36

`+ - * /` and `\times`, `\div`, parentheses and unary minus are understood. Values are fractions,
so a division is exact.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARACTERS = 500
MAX_NUMBERS = 20
MAX_DEPTH = 20
"""Of parentheses and signs inside each other."""
_TOKEN = re.compile(r"\s*(?:([0-9]{1,9})|(.))")
_LATEX = {r"\times": "*", r"\cdot": "*", r"\div": "/", "×": "*", "÷": "/", "−": "-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What an expression is worth."""

    number: Fraction
    used: tuple[int, ...]
    """Numbers of the expression, as often as they occur."""


def evaluate(expression: str) -> Value:
    """Parse and compute an expression.

    Raises:
        ValueError: it is no arithmetic, divides by zero, or is too long.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"expected at most {MAX_CHARACTERS} characters, got {len(expression)}")
    for latex, plain in _LATEX.items():
        expression = expression.replace(latex, plain)
    return _Parser(expression.split("=")[0]).parse()


def solves(expression: str, numbers: list[int], target: int) -> bool:
    """Whether the expression makes the target and uses every number exactly once."""
    try:
        value = evaluate(expression)
    except ValueError:
        return False
    return value.number == target and sorted(value.used) == sorted(numbers)


class _Parser:
    """Recursive descent: sums of products of signed factors."""

    def __init__(self, text: str) -> None:
        self.tokens = [number or other for number, other in _TOKEN.findall(text.strip())]
        self.position = 0
        self.depth = 0
        self.used: list[int] = []

    def parse(self) -> Value:
        number = self._sum()
        if self._next() is not None:
            raise ValueError(f"expected an operator, got {self._next()!r}")
        return Value(number=number, used=tuple(self.used))

    def _sum(self) -> Fraction:
        value = self._product()
        while self._next() in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        return value

    def _product(self) -> Fraction:
        value = self._factor()
        while self._next() in ("*", "/"):
            operator, factor = self._take(), self._factor()
            if operator == "/" and factor == 0:
                raise ValueError("division by zero")
            value = value * factor if operator == "*" else value / factor
        return value

    def _factor(self) -> Fraction:
        token = self._take()
        if token in ("-", "("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise ValueError(f"expected at most {MAX_DEPTH} parentheses inside each other")
            value = -self._factor() if token == "-" else self._sum()
            if token == "(" and self._take() != ")":
                raise ValueError("expected a closing parenthesis")
            self.depth -= 1
            return value
        if not (token.isascii() and token.isdecimal()):
            raise ValueError(f"expected a number, got {token!r}")
        self.used.append(int(token))
        if len(self.used) > MAX_NUMBERS:
            raise ValueError(f"expected at most {MAX_NUMBERS} numbers")
        return Fraction(int(token))

    def _next(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def _take(self) -> str:
        token = self._next()
        if token is None:
            raise ValueError("the expression ends too early")
        self.position += 1
        return token
