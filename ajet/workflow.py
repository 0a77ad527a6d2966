"""The base class of workflows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, PydanticUndefinedAnnotation
from pydantic.fields import FieldInfo, ModelPrivateAttr
from pydantic_core import PydanticUndefined

from ajet.class_path import find_function, load_class, require_call
from ajet.errors import ConfigError
from ajet.schema.task import WorkflowOutput, WorkflowTask

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass

    from ajet.tuner import AjetTuner
else:
    ModelMetaclass = type(BaseModel)  # pydantic exports no name for it

__all__ = ["Workflow", "WorkflowOutput", "WorkflowTask", "load_workflow"]


class WorkflowMeta(ModelMetaclass):
    """Lets a workflow have plain class attributes, as any Python class.

    pydantic refuses an attribute without an annotation. Here it becomes a `ClassVar` or, where it
    overrides a field of a base class such as `name`, a field of the same type. A property that
    overrides a field stays a property.
    """

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any
    ) -> WorkflowMeta:
        """Annotate the attributes that have no annotation, then make the class."""
        fields: dict[str, FieldInfo] = {}
        for base in reversed(bases):
            fields |= getattr(base, "model_fields", {})
        annotations = namespace.setdefault("__annotations__", {})
        for attribute, value in namespace.items():
            if attribute in annotations or not _is_constant(attribute, value):
                continue
            overridden = fields.get(attribute)
            annotations[attribute] = overridden.annotation if overridden else ClassVar[Any]
        properties = {
            attribute: value
            for attribute, value in namespace.items()
            if attribute in fields and isinstance(value, property)
        }
        made = super().__new__(mcs, name, bases, namespace, **kwargs)
        for attribute, value in properties.items():  # pydantic made it the field's default
            setattr(made, attribute, value)
        return cast("WorkflowMeta", made)


def _is_constant(name: str, value: Any) -> bool:
    """Whether a class attribute is a value, and not a method, a property, a class or pydantic's."""
    is_ours = name.startswith("_") or name == "model_config"
    return not (
        is_ours
        or hasattr(value, "__get__")
        or isinstance(value, type | FieldInfo | ModelPrivateAttr)
    )


class Workflow(BaseModel, metaclass=WorkflowMeta):
    """How one agent, or several, work on one task. Every episode gets a fresh instance."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    name: str = "workflow"
    trainable_targets: list[str] | None = None
    """The values of `target_tag` whose calls are trained; a text is one value; None: all calls."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the instance complete, so that an `__init__` need not call `super().__init__()`."""
        made = super().__new__(cls)
        fields = {
            name: field.get_default(call_default_factory=True)
            for name, field in cls.model_fields.items()
            if not field.is_required() and not hasattr(cls, name)  # else a property
        }
        private = {
            name: default
            for name, attribute in cls.__private_attributes__.items()
            if (default := attribute.get_default()) is not PydanticUndefined
        }
        slots: dict[str, Any] = {
            "__dict__": fields,
            "__pydantic_extra__": {},
            "__pydantic_fields_set__": set(),
            "__pydantic_private__": private or None,
        }
        for name, value in slots.items():
            object.__setattr__(made, name, value)
        return made

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Solve the task with the tuner's model. May block: other episodes continue to run.

        A plain `def execute` works as well.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no execute(): a subclass of ajet.Workflow needs "
            "`async def execute(self, workflow_task, tuner)`"
        )


def load_workflow(class_path: str) -> type[Workflow]:
    """Load the workflow that `ajet.rollout.user_workflow` names.

    A function `(workflow_task, tuner)`, async or not, becomes the `execute` of a workflow of its
    name.

    Raises:
        ConfigError: it cannot be loaded, is a class that is not a `Workflow`, has no `execute`, or
            cannot be called as workflows are.
        MissingExtraError: it imports a library that one of our extras installs.
    """
    key = "ajet.rollout.user_workflow"
    if function := find_function(class_path, key):
        require_call(function, (None, None), f"{key}: {class_path}(workflow_task, tuner)")
        return _workflow_of(function)
    found: type[Workflow] = load_class(class_path, Workflow, key)
    if found is Workflow or found.execute is Workflow.execute:
        raise ConfigError(
            f"{key}: {class_path} has no execute(): define "
            "async def execute(self, workflow_task, tuner) -> WorkflowOutput"
        )
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ConfigError(f"{key}: {class_path} is abstract: define {', '.join(missing)}")
    if "__dataclass_fields__" in vars(found):
        raise ConfigError(
            f"{key}: {class_path} is a @dataclass, which takes the defaults of its fields away; a "
            "Workflow has fields without it: remove the decorator"
        )
    _require_fields(found, f"{key}: {class_path}")
    require_call(found, (), f"{key}: {class_path}()")
    called = f"{key}: {class_path}.execute(self, workflow_task, tuner)"
    stored = inspect.getattr_static(found, "execute")
    needs_object = not isinstance(stored, staticmethod | classmethod)
    require_call(found.execute, (None,) * (3 if needs_object else 2), called)
    return found


def _require_fields(found: type[Workflow], name: str) -> None:
    """Check that the types of all fields are defined.

    Raises:
        ConfigError: a type is only imported for type checking, for example.
    """
    if found.__pydantic_complete__:
        return
    try:
        found.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise ConfigError(
            f"{name}: the annotation {error.name} is not defined when it runs: import it outside "
            "of `if TYPE_CHECKING:`, or write the attribute without an annotation"
        ) from error


def _workflow_of(function: Callable[..., Any]) -> type[Workflow]:
    class FunctionWorkflow(Workflow):
        name: str = function.__name__

        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            returned = function(workflow_task, tuner)
            return cast(
                WorkflowOutput, await returned if inspect.isawaitable(returned) else returned
            )

    return FunctionWorkflow
