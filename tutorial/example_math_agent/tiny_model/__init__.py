r"""The recipe of the demo's tiny model, `ajet/tiny_model/calculator/`: 0.46M parameters of Qwen3.

`python -m tutorial.example_math_agent.tiny_model.build --out FOLDER` makes it from scratch.

The model knows one form of conversation, token by token: what the gateway renders with
`Qwen3Renderer(tokenizer, Qwen3RendererConfig(enable_thinking=False))` from these messages, with
`tools=[CALCULATOR_TOOL]` in OpenAI's shape (`{"type": "function", "function": {...}}`). The order
of keys matters, because Qwen3's template prints each tool as it is:

    system     SYSTEM_PROMPT
    user       the question
    assistant  no text, one call: calculator(expression="19 - 4")
    tool       15
    ...        2 or 3 such pairs
    assistant  Answer: 83

Every client sends this. A plain OpenAI client sends it as written. AgentScope 1.x (`ReActAgent`
with `OpenAIChatModel`, `OpenAIChatFormatter` and a `Toolkit` that holds `calculator`) differs only
in fields that the renderer ignores: messages carry a `name`, text comes as a list of one text part,
and calls carry an `id`. A tool result of one text block arrives as that text alone. The agent
registers a finish function only if `reply` gets a structured model; the loop ends at the first
answer without a tool call. The warm-up does not contain one kind of call: when `max_iters` is used
up, the agent asks for a summary, in a user message and without tools, which changes the system
message.

Every assistant turn is sampled after `<|im_start|>assistant\n<think>\n\n</think>\n\n`, which is
part of the prompt and never a trained token.
"""
