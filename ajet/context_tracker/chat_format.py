"""Chat formats: messages to token ids and back, by the `renderers` library.

Only this module uses that library. A chat format renders a whole history, extends a recorded one by
new messages without changing its ids (the bridge), and parses a completion by special-token ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from renderers import ParsedToolCall, ToolCallParseStatus, create_renderer
from renderers.base import MODEL_RENDERER_MAP, _populate_registry
from renderers.configs import _config_class_for

from ajet.boundary import caught_error, text_of
from ajet.context_tracker.history import is_too_deep
from ajet.errors import MissingExtraError, ModelError, RequestError
from ajet.model_files import read_json

_RENDER_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    TemplateError,
)

_PROMPT_END = 4096
"""Ids of a prompt that its renderer gets when it extends the prompt."""

Messages = list[dict[str, Any]]
Tools = list[dict[str, Any]] | None


_QUESTION: dict[str, Any] = {"role": "user", "content": "?"}
_EXAMPLE: dict[str, Any] = {"name": "f", "arguments": {"a": "b"}}
_EXAMPLE_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
    },
}


@dataclass(slots=True, kw_only=True)
class ParsedMessage:
    """The parts of an assistant message that a completion holds."""

    content: str
    reasoning: str | None = None
    tool_calls: list[tuple[str, dict[str, Any] | str]] = field(default_factory=list)
    """Name and arguments of each well-formed call."""
    malformed_tool_calls: int = 0
    """Number of calls that could not be parsed; their raw text is in `content`."""


class ChatFormat:
    """The chat format of one model family, with one tokenizer."""

    parses_tool_calls = True
    """False: tools are not shown to the model, and a tool call is text like any other."""

    def __init__(self, tokenizer: ChatTokenizer, renderer: Any, config: Any) -> None:
        self.tokenizer = tokenizer
        self._renderer = renderer
        self.stop_token_ids: tuple[int, ...] = tuple(renderer.get_stop_token_ids())
        self.has_stable_text = type(renderer).__name__ != "InklingRenderer"
        """False if text can turn into the name of a tool later, so that it cannot be streamed."""
        self.enable_thinking: bool | None = getattr(config, "enable_thinking", None)
        """Whether the model thinks before it answers; None: the format has no such choice."""

    def without_tool_calls(self) -> ChatFormat:
        """The same format, with tool calls left in the text."""
        other = copy(self)
        other.parses_tool_calls = False
        return other

    def render(self, messages: Messages, tools: Tools) -> list[int]:
        """Ids of a whole history, up to the beginning of the assistant's next turn.

        Raises:
            RequestError: the format cannot render one of the messages or tools.
        """
        with _render_errors_as_request_errors():
            ids = self._renderer.render_ids(messages, tools=tools, add_generation_prompt=True)
        return list(ids)

    def extend(
        self,
        prompt_ids: list[int],
        completion_ids: list[int],
        new_messages: Messages,
        tools: Tools,
    ) -> list[int] | None:
        """The ids that follow `prompt_ids + completion_ids` when `new_messages` are added.

        None if the format would change recorded ids, for example because it drops earlier
        thinking. A turn that was cut before its end token gets that token here, unsampled.

        Raises:
            RequestError: the format cannot render one of the messages or tools.
        """
        # A renderer copies the prompt several times, but looks only at the header at its end.
        prompt_end = prompt_ids[-_PROMPT_END:]
        with _render_errors_as_request_errors():
            rendered = self._renderer.bridge_to_next_turn(
                prompt_end, completion_ids, new_messages, tools=tools
            )
        if rendered is None:
            return None
        end_of_prompt = len(prompt_end)
        end = end_of_prompt + len(completion_ids)
        ids = rendered.token_ids
        if ids[end_of_prompt:end] != completion_ids or ids[:end_of_prompt] != prompt_end:
            return None
        return list(ids[end:])

    def parse(
        self, completion_ids: list[int], prompt_ids: list[int], tools: Tools
    ) -> ParsedMessage:
        """Split a completion into content, reasoning and tool calls, by token ids.

        A completion that the format's parser fails on, such as a tool call with a thousand
        brackets, becomes text as a whole.
        """
        try:
            parsed = self._renderer.parse_response(
                completion_ids, tools=tools, prompt_ids=prompt_ids
            )
        except _RENDER_ERRORS:
            text = self.tokenizer.decode(completion_ids)
            return ParsedMessage(content=text, malformed_tool_calls=int(self.parses_tool_calls))
        if parsed.tool_calls and not self.parses_tool_calls:
            content = self._with_calls_as_text(parsed, completion_ids)
            return ParsedMessage(content=content, reasoning=parsed.reasoning_content)
        calls = [_name_and_arguments(call) for call in parsed.tool_calls]
        texts = [parsed.content or ""]
        if parsed.tool_calls:
            is_call = [call is not None for call in calls]
            beside = self._texts_beside_calls(parsed.tool_calls, is_call, completion_ids)
            if any(beside):
                texts = [self._text_before_calls(parsed, completion_ids, prompt_ids), *beside]
        return ParsedMessage(
            content="\n".join(filter(None, texts)),
            reasoning=parsed.reasoning_content,
            tool_calls=[call for call in calls if call is not None],
            malformed_tool_calls=calls.count(None),
        )

    def _texts_beside_calls(
        self, calls: list[ParsedToolCall], is_call: list[bool], completion_ids: list[int]
    ) -> list[str]:
        """The text of malformed calls, and the text after each call, in their order."""
        ids = list(takewhile(lambda token: token not in self.stop_token_ids, completion_ids))
        starts = [call.token_span[0] for call in calls[1:] if call.token_span] + [len(ids)]
        texts = []
        for position, call in enumerate(calls):
            after = ""
            if call.token_span is not None and len(starts) == len(calls):
                after = self.tokenizer.decode(ids[call.token_span[1] : starts[position]])
                after = after.replace(self._calls_end, "").strip()
            if is_call[position]:
                texts.append(after)
            elif after and call.raw and call.token_span is not None:
                # The text as the model wrote it: the end mark may be part of a string argument,
                # which then continues after the mark.
                written = self.tokenizer.decode(ids[call.token_span[0] : starts[position]])
                texts.append(written[max(0, written.find(call.raw)) :].strip())
            else:
                texts.append(call.raw)
        return texts

    def _text_before_calls(self, parsed: Any, ids: list[int], prompt_ids: list[int]) -> str:
        """The content up to the first call; the parsers of some formats add what comes later."""
        content, span = parsed.content or "", parsed.tool_calls[0].token_span
        if span is None:
            return content
        before = self._renderer.parse_response(ids[: span[0]], prompt_ids=prompt_ids).content or ""
        return before.rstrip() if content.startswith(before) else content

    @cached_property
    def _calls_end(self) -> str:
        """The mark after the last of a turn's calls, in formats that have one."""
        if self._example_turn is None:
            return ""
        ids, span = self._example_turn
        return self.tokenizer.decode(ids[span[1] :]).strip()

    @property
    def call_mark(self) -> int | None:
        """The added token with which a turn's calls begin; None in formats that have none."""
        if self._example_turn is None:
            return None
        ids, span = self._example_turn
        thinking = self.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
        marks = [token for token in ids[: span[0] + 1] if self.tokenizer.is_added(token)]
        return next((token for token in marks if token not in thinking), None)

    @cached_property
    def _example_turn(self) -> tuple[list[int], tuple[int, int]] | None:
        """Ids of a turn with one call, and where the call begins and ends; None if unknown."""
        call = {"id": "functions.f:0", "type": "function", "function": _EXAMPLE}
        turn = {"role": "assistant", "content": "", "tool_calls": [call]}
        try:
            head = self.render([_QUESTION], [_EXAMPLE_TOOL])
            whole = self.render([_QUESTION, turn], [_EXAMPLE_TOOL])
            ids = whole[len(head) :]
            ids = list(takewhile(lambda token: token not in self.stop_token_ids, ids))
            calls = self._renderer.parse_response(ids, tools=None, prompt_ids=head).tool_calls
        except (RequestError, *_RENDER_ERRORS):
            return None
        span = calls[-1].token_span if calls and whole[: len(head)] == head else None
        return None if span is None else (ids, span)

    def _with_calls_as_text(self, parsed: Any, completion_ids: list[int]) -> str:
        """The content with everything from the first tool call on, as the model wrote it."""
        content = parsed.content or ""
        span = parsed.tool_calls[0].token_span
        if span is None:
            return "\n".join([content, *(call.raw for call in parsed.tool_calls)]).strip()
        ids = list(takewhile(lambda token: token not in self.stop_token_ids, completion_ids))
        before = self.tokenizer.decode(ids[: span[0]])
        space = before[len(before.rstrip()) :] if content else ""
        return f"{content}{space}{self.tokenizer.decode(ids[span[0] :])}"


@contextmanager
def _render_errors_as_request_errors() -> Iterator[None]:
    """Turn errors of a renderer into `RequestError`: its template does not fit the messages."""
    try:
        yield
    except _RENDER_ERRORS as error:
        cause = f"{type(error).__name__}: {error}"
        raise RequestError(
            f"messages: the model's chat format cannot render them: {cause}", param="messages"
        ) from error


def load_chat_format(
    tokenizer: ChatTokenizer,
    renderer: str = "auto",
    options: dict[str, Any] | None = None,
) -> ChatFormat:
    """Load the chat format of a model.

    Args:
        tokenizer: of the model; its name decides if `renderer` is "auto".
        renderer: a name that `renderers` knows ("qwen3", "llama-3", ...), "default" for the
            model's own Jinja template (needs transformers), or "auto".
        options: settings of that renderer, for example `{"enable_thinking": False}`.

    Raises:
        ModelError: unknown name or options, or a tokenizer that lacks the format's tokens.
    """
    renderer = chosen_renderer(renderer, tokenizer.name_or_path)
    try:
        config = _config_class_for(renderer)(**(options or {}))
        used: Any = _transformers_tokenizer(tokenizer) if renderer == "default" else tokenizer
        if renderer == "default" and not used.chat_template:
            raise ModelError(
                f"{tokenizer.name_or_path}: the model has no chat template: set "
                "ajet.model.renderer to the chat format to train with"
            )
        return ChatFormat(tokenizer, create_renderer(used, config), config)
    except ModelError:  # a ValueError, too
        raise
    except (ValueError, AssertionError) as error:
        raise ModelError(
            f"chat format {renderer!r} does not fit model {tokenizer.name_or_path}: {error}"
        ) from error


def chosen_renderer(renderer: str, model: str) -> str:
    """The renderer that "auto" means for a model of this name; any other one as it is."""
    if renderer != "auto":
        return renderer
    _populate_registry()
    return str(MODEL_RENDERER_MAP.get(model, "default"))


def _transformers_tokenizer(tokenizer: ChatTokenizer) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtraError("transformers", "local") from None
    return AutoTokenizer.from_pretrained(tokenizer.folder)


def _name_and_arguments(call: ParsedToolCall) -> tuple[str, dict[str, Any] | str] | None:
    """Name and arguments of a call; None if it is malformed or its arguments are not JSON."""
    if call.status != ToolCallParseStatus.OK:
        return None
    assert call.name is not None, "a call that parsed has a name"
    arguments = call.arguments or _parameters(call.raw)
    if isinstance(arguments, int | float):  # parsers pass on a number, or true
        return None
    opened = call.raw.count("<parameter")
    if opened > max(call.raw.count("</parameter>"), len(arguments)):
        return None  # the call ends within a parameter, which the parser leaves out
    if is_too_deep(arguments):
        return None
    try:
        json.dumps(arguments, allow_nan=False)
    except ValueError:  # NaN, or a number that is too large, such as 1e400
        return None
    return call.name, arguments


def _parameters(raw: str) -> dict[str, Any]:
    """Arguments under the key `parameters`, which models write that learned several formats."""
    try:
        call = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    parameters = call.get("parameters") if isinstance(call, dict) else None
    return parameters if isinstance(parameters, dict) else {}


_CACHED_TEXTS = 8192
_LONGEST_CACHED_TEXT = 4096


_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


def _byte_of_char() -> dict[str, int]:
    """Character -> byte, as byte-level BPE writes bytes: printable ones as themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    chars = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]
    return dict(zip(chars, printable + others, strict=True))


_BYTE_OF_CHAR = _byte_of_char()


class ChatTokenizer:
    """Text to ids and back. Short texts are cached, because chat formats repeat themselves."""

    def __init__(self, folder: Path, name: str) -> None:
        from tokenizers import Tokenizer

        self.name_or_path = name
        self.folder = folder
        file = folder / "tokenizer.json"
        with caught_error() as caught:  # the library raises plain exceptions
            self._backend = Tokenizer.from_file(str(file))
        if caught.error:
            raise ModelError(
                f"{file} cannot be read: {text_of(caught.error)}: copy it again, or fetch it with  "
                "git lfs pull"
            ) from caught.error
        settings_file = folder / "tokenizer_config.json"
        settings = read_json(settings_file) if settings_file.is_file() else {}
        self.eos_token_id = self._special_id(settings.get("eos_token"))
        self.unk_token_id = self._special_id(settings.get("unk_token"))
        self._encode_short = lru_cache(maxsize=_CACHED_TEXTS)(self._encode_text)

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def num_base_tokens(self) -> int:
        """The size of the vocabulary without added tokens."""
        return int(self._backend.get_vocab_size(with_added_tokens=False))

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text; special tokens that are written in it become their ids."""
        assert not add_special_tokens, "the chat format writes every special token itself"
        if len(text) > _LONGEST_CACHED_TEXT:
            return list(self._encode_text(text))
        return list(self._encode_short(text))

    def decode(
        self,
        token_ids: int | Iterable[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """Text of ids, for people and agents; no decision of the tracker depends on it."""
        assert not clean_up_tokenization_spaces, "it would change the text"
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return str(self._backend.decode(ids, skip_special_tokens=skip_special_tokens))

    def token_bytes(self, token_id: int) -> bytes | None:
        """The bytes that a token stands for, also if it is only a part of a character.

        None if the tokenizer does not say.
        """
        text = self.decode(token_id)
        if "\ufffd" not in text:
            return text.encode()
        token = self._backend.id_to_token(token_id) or ""
        if byte := _BYTE_TOKEN.fullmatch(token):  # SentencePiece with byte fallback
            return bytes([int(byte[1], 16)])
        if all(char in _BYTE_OF_CHAR for char in token):  # byte-level BPE
            return bytes(_BYTE_OF_CHAR[char] for char in token)
        return None

    def is_added(self, token_id: int) -> bool:
        """True for a token that was added to the base vocabulary; only its own text produces it."""
        return token_id in self._added

    @cached_property
    def _added(self) -> set[int]:
        return set(self._backend.get_added_tokens_decoder())

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> Any:
        """Id of a token, or ids of several; `unk_token_id` for an unknown token."""
        if isinstance(tokens, str):
            found = self._backend.token_to_id(tokens)
            return self.unk_token_id if found is None else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def _encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)

    def _special_id(self, token: str | dict[str, Any] | None) -> int | None:
        content = token.get("content") if isinstance(token, dict) else token
        return None if content is None else self._backend.token_to_id(content)


def load_tokenizer(folder: str | Path, name: str | None = None) -> ChatTokenizer:
    """Load the tokenizer of a model folder.

    Args:
        folder: holds `tokenizer.json` and, usually, `tokenizer_config.json`.
        name: the model's public name, by which its chat format is found; None: the folder.

    Raises:
        ModelError: there is no `tokenizer.json`, or a file is damaged.
    """
    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder}: found no tokenizer.json; expected a model folder in Hugging Face format "
            "with a fast tokenizer"
        )
    return ChatTokenizer(folder, name or str(folder))
