"""Writes TensorBoard event files with the record writer of the `tensorboard` package.

The higher-level writers import TensorFlow if it is installed, or need torch, and write from a
thread of their own, so a killed run could lose steps.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from ajet.errors import MissingExtraError
from ajet.monitor.sinks import SinkContext

FOLDER = "tensorboard"


class TensorBoardSink:
    """Writes `<run folder>/tensorboard/events.out.tfevents.*`, one scalar per metric.

    When a run is resumed, TensorBoard ignores later steps in earlier event files.

    Raises:
        MissingExtraError: `tensorboard` is not installed.
    """

    def __init__(self, context: SinkContext) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "dev") from error
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder = context.run_folder / FOLDER
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._append(file_version="brain.Event:2")
        if context.resumed_step is not None:
            restarted = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._append(step=context.resumed_step + 1, session_log=restarted)
        self._file.flush()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one event with all metrics of the step."""
        values = [
            self._summary.Value(tag=name, simple_value=value) for name, value in metrics.items()
        ]
        self._append(step=step, summary=self._summary(value=values))
        self._file.flush()

    def close(self) -> None:
        """Close the event file."""
        self._file.close()

    def _append(self, **fields: Any) -> None:
        event = self._event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())
