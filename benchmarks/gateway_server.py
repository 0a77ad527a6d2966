"""The gateway of the benchmark: a process with the HTTP server and the scripted engine.

Reads commands as JSON lines from standard input and answers each with one line:
`{"open": n}` returns the base URL and the keys of n new episodes, `{"close": true}` ends all
episodes, `{"say": text}` sets the answer of the engine, and `{"usage": true}` returns the CPU
seconds of the process and its resident memory in MB.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from ajet.context_tracker.chat_format import load_chat_format, load_tokenizer
from ajet.context_tracker.tracker import ContextTracker, EpisodeRecord
from ajet.engine.scripted import ScriptedEngine
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.tuner import AjetTuner
from benchmarks.gateway_workload import ANSWER


class Episodes:
    """Episodes of one gateway whose engine answers at once."""

    def __init__(self) -> None:
        tokenizer = load_tokenizer("ajet/tiny_model/calculator")
        chat_format = load_chat_format(tokenizer, "qwen3", {"enable_thinking": False})
        self.engine = ScriptedEngine(self._script, max_model_len=1 << 20)
        self.gateway = Gateway(
            chat_format=chat_format, engine=self.engine, defaults=SamplingDefaults()
        )
        self.http_endpoint = HttpEndpoint()
        self._open: list[AjetTuner] = []
        self.say(ANSWER)

    def say(self, answer: str) -> None:
        """Set what the engine answers from now on."""
        chat_format = self.gateway.chat_format
        self._answer = [*chat_format.tokenizer.encode(answer), chat_format.stop_token_ids[0]]

    def open(self, count: int) -> list[AjetTuner]:
        """New episodes."""
        chat_format = self.gateway.chat_format
        first = len(self._open)
        for number in range(first, first + count):
            tracker = ContextTracker(chat_format, episode_id=f"episode-{number}", task_id="task")
            self._open.append(
                AjetTuner(
                    config=None,
                    gateway=self.gateway,
                    record=EpisodeRecord(tracker),
                    http_endpoint=self.http_endpoint,
                )
            )
        return self._open[first:]

    def close(self) -> None:
        """End all episodes."""
        for tuner in self._open:
            tuner.close()
        self._open.clear()

    def _script(self, *_: object) -> list[int]:
        self.engine.requests.clear()  # only tests read this record; here it would fill memory
        return list(self._answer)


def cpu_s() -> float:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_mb() -> float:
    """Memory that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """Serve until standard input ends."""
    episodes = Episodes()
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        if "open" in command:
            endpoints = [tuner.as_oai_baseurl_apikey() for tuner in episodes.open(command["open"])]
            answer["base_url"] = endpoints[0].base_url
            answer["api_keys"] = [endpoint.api_key for endpoint in endpoints]
        elif "say" in command:
            episodes.say(command["say"])
        elif "close" in command:
            episodes.close()
        else:
            answer = {"cpu_s": cpu_s(), "resident_mb": resident_mb()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    episodes.http_endpoint.close()


if __name__ == "__main__":
    main()
