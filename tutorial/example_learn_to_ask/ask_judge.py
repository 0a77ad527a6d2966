"""Scores the assistant's answer: the action by rule, content and format by a model.

The reward is `action * (1 + 2 * content) + format`, from 0 to 4:

- `action` is 1 if the assistant asked where something is missing, or stopped where nothing is;
- `content` is 1 if the question is about a missing fact, 0.1 if it is about another one, else 0;
- `format` is 1 for one question with two or three choices, 0.5 for one question without, else 0.

A right `<stop />` has content and format 1; a wrong one has 0. An answer without text asks nothing
and has reward 0.
"""

import re
from typing import Any

from ajet import WorkflowOutput, WorkflowTask
from ajet.errors import EpisodeError
from ajet.model_client import ModelClient, ModelClientConfig
from ajet.task_judge.base_judge import BaseJudge
from tutorial.example_learn_to_ask.learn_to_ask import STOP

LARGEST = 4.0
PROMPT = """\
An assistant read a conversation between a doctor and a patient and wrote an answer. Score the
answer.

<conversation>
{conversation}
</conversation>
<missing>
{missing}
</missing>
<answer>
{answer}
</answer>

content: 1 if the answer asks for one of the missing facts, 0.1 if it asks for another fact, 0
otherwise. format: 1 if the answer is one question with two or three choices, 0.5 if it is one
question without choices, 0 otherwise.
Write nothing but <content>...</content><format>...</format>."""
ALLOWED = {"content": (0.0, 0.1, 1.0), "format": (0.0, 0.5, 1.0)}


class LearnToAskJudge(BaseJudge):
    """`ajet.task_judge.model` has the settings of a `ModelClientConfig`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        settings = ModelClientConfig.model_validate(dict(config.ajet.task_judge.model))
        self._model = ModelClient(settings, purpose="judge")

    async def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool]:
        """Return the reward, and whether action and content are right.

        Raises:
            EpisodeError: the model's answer has no valid scores.
        """
        task = workflow_task.task
        answer = str(workflow_output.metadata.get("final_answer") or "")
        must_stop = task.metadata["decision_truth"] == "stop"
        if STOP in answer:
            is_right = must_stop and answer.strip() == STOP
            return (LARGEST if is_right else 0.0), is_right
        if not answer.strip():
            return 0.0, False
        prompt = PROMPT.format(
            conversation=task.main_query,
            missing="\n".join(task.metadata["info_truth"]) or "nothing",
            answer=answer.replace("<", "(").replace(">", ")"),
        )
        judged = await self._model.ask([{"role": "user", "content": prompt}])
        scores = read_scores(judged.text)
        if must_stop:
            return scores["format"], False
        reward = 1 + 2 * scores["content"] + scores["format"]
        return reward, scores["content"] == 1.0


def read_scores(text: str) -> dict[str, float]:
    """The scores in the judge's tags.

    Raises:
        EpisodeError: a tag is missing or has another value than those allowed.
    """
    scores = {}
    for name, allowed in ALLOWED.items():
        found = re.findall(rf"<{name}>\s*(\d+(?:\.\d+)?)\s*</{name}>", text)
        if not found or float(found[-1]) not in allowed:
            expected = ", ".join(map(str, allowed))
            raise EpisodeError(f"the judge must give <{name}> one of {expected}; it wrote {text!r}")
        scores[name] = float(found[-1])
    return scores
