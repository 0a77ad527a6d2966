"""The program that runs math-verify, in a process of its own that may die.

What a policy writes is hostile: comparing `9^{9^{9}}` with anything computes for hours and holds
the interpreter's lock all the while, so that no thread of the same process could stop it.

Writes `ready`; then reads lines `[gold texts, answer texts]` of JSON and writes `true` or `false`
for each. Of either list, the first text that math-verify can read counts. Ends when its input
ends; ends itself when one comparison takes longer than `TIME_LIMIT_S`.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import resource
import sys
from typing import Any

TIME_LIMIT_S = 5
MEMORY_LIMIT_BYTES = 2 << 30


def main() -> None:
    """Answer every line of standard input."""
    from math_verify import parse, verify

    logging.disable(logging.WARNING)  # it warns that there is no timeout; there is, below
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))

    def read(texts: list[str]) -> list[Any]:
        parsed = (parse(text, parsing_timeout=None) for text in texts)
        return next(filter(None, parsed), [])

    def say(word: str) -> None:
        sys.stdout.write(word + "\n")
        sys.stdout.flush()

    say("ready")
    with open(os.devnull, "w") as nowhere:
        for line in sys.stdin:
            gold, answer = json.loads(line)
            # Its thread needs no interpreter lock, so it also ends a single endless operation.
            faulthandler.dump_traceback_later(TIME_LIMIT_S, exit=True, file=nowhere)
            equal = verify(read(gold), read(answer), timeout_seconds=None)
            faulthandler.cancel_dump_traceback_later()
            say("true" if equal else "false")


if __name__ == "__main__":
    main()
