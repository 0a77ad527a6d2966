r"""The recipe of the demo's tiny model, `ajet/tiny_model/calculator/`: 0.46M parameters of Qwen3.

`python -m tutorial.example_math_agent.tiny_model.build --out FOLDER` makes it from nothing.

The model knows one conversation, and knows it token by token. It is what a gateway renders with
`Qwen3Renderer(tokenizer, Qwen3RendererConfig(enable_thinking=False))` from these messages, with
`tools=[CALCULATOR_TOOL]` in OpenAI's shape (`{"type": "function", "function": {...}}`, key order
kept: Qwen3's template prints each tool exactly as it comes):

    system     SYSTEM_PROMPT
    user       the question
    assistant  no text, one call: calculator(expression="19 - 4")
    tool       15
    ...        2 or 3 such pairs
    assistant  Answer: 83

Both doors send this. A plain OpenAI client sends it as written. AgentScope 1.x (`ReActAgent` with
`OpenAIChatModel`, `OpenAIChatFormatter` and a `Toolkit` that holds `calculator`) differs only
where the renderer does not look: messages carry a `name`, text comes as a list of one text part,
and calls carry an `id`. A tool result of one text block arrives as that text alone. No finish
function is registered unless `reply` is given a structured model; the loop ends at the first
answer without a tool call. One call was never taught: when `max_iters` is used up, the agent asks
for a summary, in a user message and without tools, so under another system message.

Every assistant turn is sampled after `<|im_start|>assistant\n<think>\n\n</think>\n\n`, which is
part of the prompt and never a trained token.
"""
