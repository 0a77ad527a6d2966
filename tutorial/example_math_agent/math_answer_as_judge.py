"""The place of this judge in projects written for AgentJet."""

from ajet.task_judge.math_answer_as_judge import MathAnswerAsJudge

__all__ = ["MathAnswerAsJudge"]
