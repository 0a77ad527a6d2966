"""Environments: what a workflow acts on. An instance lives as long as its episode.

from ajet.environment import Environment, EnvironmentService, GymnasiumEnvironment
"""

from __future__ import annotations

from ajet.environment.environment import Environment, InvalidActionError
from ajet.environment.gymnasium_environment import GymnasiumEnvironment
from ajet.environment.service import EnvironmentService

__all__ = ["Environment", "EnvironmentService", "GymnasiumEnvironment", "InvalidActionError"]
