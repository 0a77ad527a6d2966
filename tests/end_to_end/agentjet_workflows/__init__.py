"""Six workflows in the shapes in which projects for AgentJet are written.

Each file uses one set of its interface: an AgentScope agent with a tool and a judge, an environment
with code as actions, a game of trained and untrained agents, a judge that asks another model, an
agent without tools, and a loop of the workflow's own with its own section of the YAML. The texts
are our own.
"""


def brevity(text: str) -> float:
    """A little reward for short answers.

    The tiny model can do none of the tasks; without this, all rewards would be equal, and the step
    would have no gradient.
    """
    return 0.1 / (1 + len(text))
