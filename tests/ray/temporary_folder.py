"""A temporary folder for the tests of a backbone with Ray, removed after the last of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from ajet.launcher.ray_cluster import folder_for_ray
from ajet.service.private_folder import private_folder


@pytest.fixture(scope="session", autouse=True)
def private_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What Ray and vLLM leave in the temporary folder goes with these tests."""
    tmp_path_factory.getbasetemp()  # it is made now, so it stays where it is looked for
    with pytest.MonkeyPatch.context() as patch, private_folder("tmp", folder_for_ray()) as folder:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
