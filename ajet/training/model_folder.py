"""Finds the model's folder, chat format and device. Imports torch only where it must look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ajet.config.sections.model import ModelConfig
from ajet.context_tracker.chat_format import (
    ChatFormat,
    chosen_renderer,
    load_chat_format,
    load_tokenizer,
)
from ajet.errors import ModelError, RequestError
from ajet.model_files import adapter_base, read_json


def model_folder(path: str) -> Path:
    """A local folder as it is, or the folder into which the hub's client downloads the model.

    Raises:
        ModelError: there is no such folder, and no such model on the hub.
    """
    if Path(path).exists():
        return Path(path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f'ajet.model.path: there is no folder "{path}", and the hub does not give a model of '
            f"that name: {reason}"
        ) from error


def weights_of(folder: Path, trained_from: ModelConfig) -> list[str]:
    """Settings that put weights in the place of the model that they were trained from.

    The chat format stays: `renderer: auto` goes by the model's name, which a checkpoint lacks.
    """
    renderer = chosen_renderer(trained_from.renderer, trained_from.path)
    return [
        f"model.path={json.dumps(str(folder.absolute()))}",
        f"model.renderer={json.dumps(renderer)}",
    ]


def whole_model(folder: Path) -> Path:
    """The folder of the base model if `folder` has an adapter, else `folder`.

    Raises:
        ModelError: the base model is not there.
    """
    base = adapter_base(folder)
    return folder if base is None else model_folder(base)


def chat_format_of(settings: ModelConfig, folder: Path) -> ChatFormat:
    """The chat format of the model in `folder`, or of the base model of its adapter.

    Raises:
        ModelError: the tokenizer or chat format does not fit; the message says which part.
    """
    options: dict[str, Any] = dict(settings.renderer_options)
    if settings.enable_thinking is not None:
        options["enable_thinking"] = settings.enable_thinking
    name = adapter_base(folder) or settings.path
    folder = whole_model(folder)
    tokenizer = load_tokenizer(folder, name)
    chat_format = load_chat_format(tokenizer, settings.renderer, options)
    _check_vocabulary(chat_format, folder)
    return chat_format


def _check_vocabulary(chat_format: ChatFormat, folder: Path) -> None:
    """Refuse a tokenizer whose texts give ids that the model does not have.

    Added tokens beyond the vocabulary are fine as long as the chat format does not use them: some
    text models come with the tokenizer of a model that also has images.
    """
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else {}
    vocabulary = config.get("text_config", config).get("vocab_size")
    if not isinstance(vocabulary, int | None):
        raise ModelError(f"{file}: vocab_size is {vocabulary!r}, expected a whole number")
    probe = _probe(chat_format, "hi", folder)
    if probe == _probe(chat_format, "good morning", folder):
        raise ModelError(
            f"{folder}: the chat template does not write the messages: set ajet.model.renderer to "
            "the chat format to train with"
        )
    largest = max(
        chat_format.tokenizer.num_base_tokens - 1, *probe, *chat_format.stop_token_ids[:1]
    )
    if vocabulary is not None and largest >= vocabulary:
        raise ModelError(
            f"{folder}: the tokenizer has ids up to {largest}, but the model has only {vocabulary} "
            "tokens: the tokenizer belongs to another model"
        )


def _probe(chat_format: ChatFormat, text: str, folder: Path) -> list[int]:
    """The ids of a short conversation; some templates want a system message.

    Raises:
        ModelError: the template cannot write it.
    """
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    try:
        return chat_format.render(messages[1:], None)
    except RequestError:
        try:
            return chat_format.render(messages, None)
        except RequestError as error:
            raise ModelError(f"{folder}: the chat template fails: {error}") from error


def device_of(name: str) -> str:
    """The device that `ajet.model.device` means on this machine: `cpu` or `cuda`."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
