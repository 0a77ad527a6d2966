"""Trinity's processes are told by the environment that they are on a CPU."""

from __future__ import annotations

import os
from importlib.util import find_spec

from ajet.backbone.trinity.cpu.settings import environment

if find_spec("trinity"):
    os.environ.update(environment(kv_cache_gb=None, num_threads=None))
else:
    collect_ignore_glob = ["test_*.py"]
