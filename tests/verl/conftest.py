"""Sets the variables that make verl's processes use the CPU."""

from __future__ import annotations

import os
from importlib.util import find_spec

from ajet.backbone.verl.cpu.settings import environment
from tests.ray.temporary_folder import private_temporary_folder  # noqa: F401

if find_spec("verl"):
    os.environ.update(environment(kv_cache_gb=None, num_threads=None, given=""))
else:
    collect_ignore_glob = ["test_*.py"]
