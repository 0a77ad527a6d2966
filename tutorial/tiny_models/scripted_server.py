"""An OpenAI-compatible server whose answers a function makes, for models that a CPU cannot run."""

import argparse
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[list[dict[str, Any]]], str]
"""From the messages of a request to the text of the completion."""


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, in one part or several."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def make_server(answer: Answer, port: int) -> ThreadingHTTPServer:
    """A server on this machine for `POST /v1/chat/completions`; any GET is a health check."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send({"status": "ok"})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = {"role": "assistant", "content": answer(request["messages"])}
            self._send(
                {
                    "id": "scripted",
                    "object": "chat.completion",
                    "created": 0,
                    "model": request["model"],
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
                }
            )

        def _send(self, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Write no line per request."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    return Server(("127.0.0.1", port), Handler)


def serve(answer: Answer, description: str) -> None:
    """Answer requests at `--port` until the process is ended."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, required=True)
    make_server(answer, parser.parse_args().port).serve_forever()
