"""The program that runs math-verify in a separate process, which may die at any time.

Text from a policy can be hostile: comparing `9^{9^{9}}` with anything computes for hours and holds
the interpreter lock, so that no thread of the same process could stop it.

The program writes `ready`. Then it reads JSON lines `[gold texts, answer texts]` and writes `true`
or `false` for each. From each list it uses the first text that math-verify can parse. It exits when
its input ends, or when one comparison takes longer than `TIME_LIMIT_S`.
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
    """Compare the texts of every line of standard input."""
    from math_verify import parse, verify

    logging.disable(logging.WARNING)  # it warns about no timeout; ours is below
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
            # Its thread needs no interpreter lock, so it can end even one endless operation.
            faulthandler.dump_traceback_later(TIME_LIMIT_S, exit=True, file=nowhere)
            equal = verify(read(gold), read(answer), timeout_seconds=None)
            faulthandler.cancel_dump_traceback_later()
            say("true" if equal else "false")


if __name__ == "__main__":
    main()
