"""Loaded by every process of verl, because `VERL_USE_EXTERNAL_MODULES` says so."""

# First what verl asks for as soon as it is imported.
from ajet.backbone.verl.cpu import vllm_version  # noqa: F401, I001
from ajet.backbone.verl.cpu import platform  # noqa: F401
