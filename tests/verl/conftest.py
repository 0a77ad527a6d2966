"""Sets the variables that make verl's processes use the CPU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from ajet.backbone.verl.cpu.settings import environment
from ajet.launcher.ray_cluster import folder_for_ray
from ajet.service.private_folder import private_folder

if find_spec("verl"):
    os.environ.update(environment(kv_cache_gb=None, num_threads=None, given=""))
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def private_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What Ray and vLLM leave in the temporary folder goes with these tests."""
    tmp_path_factory.getbasetemp()  # it is made now, so it stays where it is looked for
    with pytest.MonkeyPatch.context() as patch, private_folder("tmp", folder_for_ray()) as folder:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
