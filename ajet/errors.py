"""Every exception that AgentJet raises, in one tree.

AjetError
├── ConfigError (ValueError)          a YAML key, a value or an override is wrong
├── DataError (ValueError)            a data set cannot be read, or a record is bad
├── MissingExtraError (ImportError)   an extra is not installed; the message has the pip command
├── ModelError (ValueError)           a model cannot be loaded or does not fit
├── RequestError (ValueError)         an agent's request cannot be honoured; has an HTTP status
│   └── ContextLengthError            the prompt leaves no room for an answer in the context
├── EngineError (RuntimeError)        the engine failed; the episode may be tried again
├── EnvironmentFault (RuntimeError)   an environment failed; the episode may be tried again
├── ServiceError (RuntimeError)       a process that the run needs did not start, or has ended
├── EpisodeError (RuntimeError)       a mistake in one episode; it is recorded, the run continues
├── ModelCallError (RuntimeError)     a judge's or generator's model gave no usable answer
│   └── ModelBudgetError              it may not be asked again: the budget is used up
├── TrainingError (RuntimeError)      the run cannot continue (NaN, too many failures, ...)
└── CheckpointError (RuntimeError)    a checkpoint cannot be written or read
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AjetError(Exception):
    """Base of every error that AgentJet raises on purpose."""


class ConfigError(AjetError, ValueError):
    """The configuration is wrong; the message names the file, the key, the value and the fix."""


class DataError(AjetError, ValueError):
    """A data set is missing, empty or malformed; the message names the file and the line."""


class MissingExtraError(AjetError, ImportError):
    """An optional dependency is not installed; the message has the pip command.

    Args:
        package: what is missing.
        extra: the extra of AgentJet that installs it.
        instead: what the user can do without it, for the end of the message.
    """

    def __init__(self, package: str, extra: str, *, instead: str = "") -> None:
        install = f'{package} is not installed: run  pip install "agentjet[{extra}]"'
        super().__init__(f"{install}, or {instead}" if instead else install)


class ModelError(AjetError, ValueError):
    """A model folder cannot be loaded, or the model cannot do what was asked."""


class RequestError(AjetError, ValueError):
    """A chat request that cannot be honoured, with the fields of an error of the OpenAI API.

    Args:
        message: what is wrong and what was expected.
        param: the field of the request that is wrong; None: no single one.
        code: the machine-readable code of the OpenAI API.
        status: the HTTP status.
    """

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status


class ContextLengthError(RequestError):
    """The prompt leaves no room for an answer in the model's context."""

    def __init__(self, prompt_tokens: int, max_model_len: int) -> None:
        super().__init__(
            f"This model's maximum context length is {max_model_len} tokens; "
            f"the prompt alone has {prompt_tokens}.",
            param="messages",
            code="context_length_exceeded",
        )


class EngineError(AjetError, RuntimeError):
    """The inference engine failed. This is an infrastructure fault: the episode may be retried."""


class EnvironmentFault(AjetError, RuntimeError):
    """An environment failed. This is an infrastructure fault: the episode may be retried."""


class ServiceError(AjetError, RuntimeError):
    """A process that the run needs did not start, or has ended; the message ends with its log."""


class EpisodeError(AjetError, RuntimeError):
    """A workflow or a judge made a mistake in one episode; it is recorded and the run continues."""


class ModelCallError(AjetError, RuntimeError):
    """A model that a judge, a generator or a filter asks gave no usable answer."""


class ModelBudgetError(ModelCallError):
    """The calls or tokens that a run may use of a model are used up."""


class TrainingError(AjetError, RuntimeError):
    """The run cannot continue."""


class CheckpointError(AjetError, RuntimeError):
    """A checkpoint cannot be written or read."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: `; did you mean "x"?`, or nothing when no name is similar."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean "{matches[0]}"?' if matches else ""
