"""Asks other models: for judges, data generation and filters.

client = ModelClient(ModelClientConfig(model="qwen-max"), purpose="judge")
answer = await client.ask([{"role": "user", "content": "2 + 2?"}])    # or client.ask_blocking(...)
answer.text

With `form=`, a pydantic class, the model is asked for JSON of that form, and `answer.value` is an
object of the class. One client serves any number of threads and event loops.
"""

from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ModelBudgetError, ModelCallError
from ajet.model_client.client import ModelAnswer, ModelClient
from ajet.model_client.place import PLACE

__all__ = [
    "PLACE",
    "ModelAnswer",
    "ModelBudgetError",
    "ModelCallError",
    "ModelClient",
    "ModelClientConfig",
]
