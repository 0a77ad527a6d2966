"""The import path of `AgentJetJob` in projects written for AgentJet."""

from ajet.job import AgentJetJob

__all__ = ["AgentJetJob"]
