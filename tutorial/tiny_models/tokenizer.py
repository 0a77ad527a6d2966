"""A word-level byte BPE for the conversations of an example, with Qwen3's special tokens.

Three rules on token boundaries keep prompts short and the task learnable:

- a digit is a token of its own, so that numbers are copied digit by digit; or, if the recipe says
  so, a number of up to two digits is, so that sums can be looked up;
- elsewhere a token is at most one word with the space before it;
- a line that often comes back unchanged (system prompt, tool preamble, tool schema) may be one
  token.

All 256 bytes are in the vocabulary: any text can be encoded, and another system prompt only takes
more tokens.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from renderers.configs import Qwen3RendererConfig
from renderers.qwen3 import Qwen3Renderer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

Messages = list[dict[str, Any]]
"""A conversation in OpenAI's format."""

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
PAD, EOS = "<|endoftext|>", "<|im_end|>"
ASSISTANT_OPENING = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""The end of each prompt; never sampled."""
SPECIAL_PATTERN = re.compile("|".join(map(re.escape, CONTROL_TOKENS + MARKUP_TOKENS)))
WORD_PATTERN = r"\d|\n|[^\s\d]+| [^\s\d]*"
"""Every digit is a token."""
NUMBER_PATTERN = r" ?\d{1,2}(?!\d)|\d|\n|[^\s\d]+| [^\s\d]*"
"""Numbers below 100 are tokens, with the space before them."""
MIN_CONSTANT_LINE = 13
"""Characters; shorter lines are split into words."""
MIN_CONSTANT_SHARE = 0.05
"""Share of the conversations that contain a line which may be one token."""


class Spoken(Protocol):
    """The part of a `Conversation` that a tokenizer is trained on."""

    messages: Messages
    tools: list[dict[str, Any]]


CHAT_TEMPLATE = """\
{%- macro text(content) -%}
{%- if content is string -%}{{- content -}}
{%- elif content -%}{%- for part in content -%}{{- part.text -}}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set system = text(messages[0].content) if messages[0].role == 'system' else '' -%}
{%- if tools -%}
{{- '<|im_start|>system\\n' + (system + '\\n\\n' if messages[0].role == 'system' else '') -}}
{{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n' -}}
{{- 'You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and ' -}}
{{- 'arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n' -}}
{{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' -}}
{%- elif messages[0].role == 'system' -%}
{{- '<|im_start|>system\\n' + system + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) -%}
{{- '<|im_start|>' + message.role + '\\n' + text(message.content) + '<|im_end|>\\n' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + text(message.content) -}}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function or call -%}
{{- '\\n' if message.content or not loop.first else '' -}}
{{- '<tool_call>\\n{"name": "' + function.name + '", "arguments": ' -}}
{{- function.arguments if function.arguments is string else function.arguments | tojson -}}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- elif message.role == 'tool' -%}
{{- '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '' -}}
{{- '\\n<tool_response>\\n' + text(message.content) + '\\n</tool_response>' -}}
{{- '<|im_end|>\\n' if loop.last or loop.nextitem.role != 'tool' else '' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
"""
"""Qwen3's format with thinking off: every assistant turn keeps the empty block that its prompt
had, as `renderers` does. (Qwen3's own template drops it from past turns.)"""


def make_renderer(tokenizer: PreTrainedTokenizerFast) -> Qwen3Renderer:
    """The renderer that the gateway uses for this model."""
    return Qwen3Renderer(tokenizer, Qwen3RendererConfig(enable_thinking=False))


def train_tokenizer(
    conversations: Sequence[Spoken], *, pattern: str = WORD_PATTERN, max_vocab_size: int = 768
) -> Tokenizer:
    """Learn the merges from conversations as the renderer writes them.

    Training stops by itself when every word of the text is one token.
    """
    bytes_only = as_transformers(_bytes_only())
    renderer = make_renderer(bytes_only)

    def write(messages: Messages, tools: list[dict[str, Any]]) -> str:
        return str(bytes_only.decode(renderer.render_ids(messages, tools=tools or None)))

    contexts = [
        write([m for m in c.messages if m["role"] != "assistant"], c.tools) for c in conversations
    ]
    tokenizer = _byte_level(models.BPE(), "|".join([*_constant_lines(contexts), pattern]))
    trainer = trainers.BpeTrainer(
        vocab_size=max_vocab_size,
        special_tokens=_special_tokens(),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (text for c in conversations for text in _plain_texts(write(c.messages, c.tools)))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def as_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer as transformers sees it, with the chat template."""
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def tokenizer_config(max_length: int) -> dict[str, Any]:
    """The content of `tokenizer_config.json`; max_length in tokens."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": None,
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _bytes_only() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[])
    tokenizer = _byte_level(model, WORD_PATTERN)
    tokenizer.add_tokens(_special_tokens())
    return tokenizer


def _byte_level(model: models.BPE, pattern: str) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _special_tokens() -> list[AddedToken]:
    """As in Qwen3, the markup of tools and thinking survives `skip_special_tokens=True`."""
    return [
        AddedToken(token, special=token in CONTROL_TOKENS, normalized=False)
        for token in CONTROL_TOKENS + MARKUP_TOKENS
    ]


def _constant_lines(contexts: Sequence[str]) -> list[str]:
    """Patterns of the long lines without digits that often come back, longest first."""
    counts: Counter[str] = Counter()
    for context in contexts:
        counts.update({line for text in _plain_texts(context) for line in text.split("\n")})
    often = {line for line, count in counts.items() if count >= MIN_CONSTANT_SHARE * len(contexts)}
    long = {x for x in often if len(x) >= MIN_CONSTANT_LINE and not re.search(r"\d", x)}
    return [re.escape(line) for line in sorted(long, key=lambda line: (-len(line), line))]


def _plain_texts(text: str) -> Iterator[str]:
    return (part for part in SPECIAL_PATTERN.split(text) if part)
