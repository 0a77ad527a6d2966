"""The runs that a viewer shows: one folder, or all runs of a folder."""

from __future__ import annotations

import threading
from pathlib import Path

from ajet.errors import ConfigError
from ajet.viewer.run_view import RunView, is_run


class RunLibrary:
    """Runs by name. A name from outside is only ever looked up, never made into a path.

    Args:
        place: a run's folder, or a folder that holds some.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, place: Path) -> None:
        self.place = place.expanduser().resolve()
        if not self.place.is_dir():
            raise ConfigError(
                f"there is no folder {place}; give a run's folder, or one that holds runs"
            )
        self._views: dict[str, RunView] = {}
        self._lock = threading.Lock()

    @property
    def is_one_run(self) -> bool:
        """The place is itself a run's folder."""
        return is_run(self.place)

    def runs(self) -> list[RunView]:
        """Those that are there now, by name."""
        folders = [self.place] if self.is_one_run else self._folders()
        with self._lock:
            views = {f.name: self._views.get(f.name) or RunView(f) for f in folders}
            self._views = views
        return list(views.values())

    def get(self, name: str) -> RunView:
        """The run of that name.

        Raises:
            LookupError: there is none.
        """
        with self._lock:
            view = self._views.get(name)
        if view is not None and view.folder.is_dir():
            return view
        for view in self.runs():
            if view.folder.name == name:
                return view
        raise LookupError(f'there is no run "{name}"')

    def _folders(self) -> list[Path]:
        return sorted(folder for folder in self.place.iterdir() if is_run(folder))
