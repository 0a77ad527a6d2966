"""Folders for what the child processes of a run leave in the temporary folder.

1. A folder is there within the block, for this user only, and gone after it, also after an error.
2. A folder whose owner was killed is removed by the next one; one in use, another user's program's
   and a link are not.
3. Sockets fit into a folder, however long the path of the temporary folder is.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from ajet.service.private_folder import private_folder, remove_left_behind, short_folder


def left_behind(parent: Path, name: str) -> Path:
    """As SIGKILL leaves it: the file is there, and no process holds it."""
    folder = parent / name
    (folder / "session").mkdir(parents=True)
    (folder / "owner.lock").touch()
    (folder / "session" / "socket").touch()
    return folder


def test_a_folder_is_private_and_goes_with_its_block(tmp_path: Path) -> None:
    with private_folder("vllm", tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith("ajet-vllm-")
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "socket").touch()
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), private_folder("vllm", tmp_path) as folder:
        raise KeyboardInterrupt
    assert not folder.exists()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    folder = left_behind(tmp_path, "ajet-ray-1")
    with private_folder("tmp", tmp_path) as mine:
        assert not folder.exists()
        assert mine.exists()


def test_a_folder_in_use_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    elsewhere = left_behind(tmp_path, "elsewhere")
    (tmp_path / "ajet-link").symlink_to(elsewhere)
    without_lock = tmp_path / "ajet-other"
    without_lock.mkdir()
    with private_folder("ray", tmp_path) as mine:
        assert remove_left_behind(tmp_path) == 0
        assert mine.exists()
        assert without_lock.exists()
        assert (elsewhere / "session").exists()


@pytest.mark.parametrize("length", [20, 40, 41, 90])
def test_a_socket_fits_into_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    parent = "/" + "t" * (length - 1)
    monkeypatch.setattr(tempfile, "tempdir", parent)
    assert short_folder() == Path(parent if length <= 40 else "/tmp")
    folder = f"{short_folder()}/ajet-vllm-12345678"
    assert len(f"{folder}/weights-01000000-replica-100-rank-100.sock") <= 107
    assert len(f"{folder}/1e84d356-45cb-4ac9-8db4-a018dbf8e354") <= 107
