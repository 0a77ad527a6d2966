"""The base class of environment services that users write."""

from __future__ import annotations

from collections.abc import Sequence

from ajet.environment.service_base import BaseEnvironmentService


class EnvironmentService(BaseEnvironmentService):
    """Serves environments over HTTP.

    Implement `task_ids`, `create`, `step` and, for a judge, `evaluate`; then:

        if __name__ == "__main__":
            MyService.main()

    The methods may block: they run in threads. They may also be `async def`. Calls for one
    instance never overlap; calls for different instances do. An exception becomes status 500 with
    its text, which fails the episode.
    """

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> None:
        """Serve until SIGTERM or Ctrl-C, with the options of the command line (see `--help`)."""
        # Imported here: a class that is only imported, as in a test, needs no HTTP server.
        from ajet.environment.serving import serve_from_command_line

        serve_from_command_line(cls(), arguments)
