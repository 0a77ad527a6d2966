"""A tokenizer of bytes and special tokens: enough for every chat format, and lossy as text."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARKS = {
    "qwen": "<|endoftext|> <|im_start|> <|im_end|> <think> </think> <tool_call> </tool_call> "
    "<tool_response> </tool_response> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|>",
    "llama": "<|begin_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|end_of_text|> "
    "<|eom_id|>",
    "glm": "[gMASK] <sop> <|system|> <|user|> <|assistant|> <|observation|> <arg_key> </arg_key> "
    "<arg_value> </arg_value>",
    "deepseek": "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> "
    "<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> "
    "<｜tool▁sep｜> <｜tool▁outputs▁begin｜> <｜tool▁outputs▁end｜> <｜tool▁output▁begin｜> "
    "<｜tool▁output▁end｜>",
    "kimi": "<|im_user|> <|im_assistant|> <|im_system|> <|im_middle|> "
    "<|tool_calls_section_begin|> <|tool_calls_section_end|> <|tool_call_begin|> "
    "<|tool_call_argument_begin|> <|tool_call_end|>",
    "minimax": "]~!b[ ]~b] [e~[ <minimax:tool_call> </minimax:tool_call>",
    "deepseek-v4": "｜DSML｜ <｜latest_reminder｜> <｜action｜> <｜query｜> <｜authority｜> "
    "<｜domain｜> <｜title｜> <｜read_url｜>",
    "gemma": "<bos> <eos> <|turn> <turn|> <|channel> <channel|> <|tool_call> <tool_call|> <|tool> "
    '<tool|> <|tool_response> <tool_response|> <|"|> <|think|> <|image> <image|> <|image|> '
    "<|video|> <|audio|> <|audio> <audio|>",
    "inkling": "<|message_model|> <|message_user|> <|message_system|> <|message_tool|> "
    "<|content_text|> <|content_thinking|> <|content_invoke_tool_json|> "
    "<|content_invoke_tool_text|> <|end_message|> <|content_model_end_sampling|> "
    "<|content_image|> <|content_audio_input|> <|content_xml|> <|audio_end|> <|unused_200053|> "
    "<|unused_200054|>",
    "laguna": "〈|EOS|〉 <assistant> </assistant> <user> </user> <system> </system> "
    "<tools> </tools>",
    "kimi-k2.5": "<|media_begin|> <|media_content|> <|media_end|> <|media_pad|>",
}
SPECIAL = list(dict.fromkeys(mark for marks in _MARKS.values() for mark in marks.split()))


class ToyTokenizer:
    """Ids 0 to 255 are bytes; each special token is one id above."""

    name_or_path = "toy"
    unk_token_id = None

    def __init__(self) -> None:
        self.special = {mark: 256 + index for index, mark in enumerate(SPECIAL)}
        self.eos_token_id = self.special["<|endoftext|>"]
        self._text = {index: mark for mark, index in self.special.items()}
        self._pattern = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")

    def __len__(self) -> int:
        return 256 + len(SPECIAL)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        ids: list[int] = []
        for part in self._pattern.split(text):
            ids += [self.special[part]] if part in self.special else part.encode()
        return ids

    def decode(self, token_ids: int | Iterable[int], **_: object) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        parts = [self._text[i].encode() if i in self._text else bytes([i]) for i in ids]
        return b"".join(parts).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        text = self._text.get(token_id)
        return bytes([token_id]) if text is None else text.encode()

    def is_added(self, token_id: int) -> bool:
        return token_id > 255

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> object:
        if isinstance(tokens, str):
            return self.special.get(tokens)
        return [self.convert_tokens_to_ids(token) for token in tokens]
