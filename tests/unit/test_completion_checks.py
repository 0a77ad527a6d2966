"""Rules that recognise a completion that no reward should encourage.

1. A loop of one unit is nonsense, wherever it stands; so are characters that no text has.
2. Real text is not: prose in many languages, tables, code, lists, lines of dashes, cut characters.
3. A tool call is wrong where it cannot be read, names no offered tool, or has no JSON object.
4. Rules that are not on the list are not applied.
"""

from __future__ import annotations

from typing import Any

import pytest

from ajet.gateway.completion_checks import CHECKS, CheckedCompletion, failed_checks

TOOLS = [{"type": "function", "function": {"name": "calculator", "parameters": {}}}]

PROSE = {
    "English": "The committee met twice before it agreed on a date. Nobody was happy with it, and "
    "yet nobody proposed a better one, so it stayed.",
    "German": "Die Donaudampfschifffahrtsgesellschaft fährt seit gestern wieder, und zwar so, wie "
    "es der Fahrplan vorsieht.",
    "Chinese": "先把两个数相加，然后减去第三个数，得到的结果再除以二，就是我们要找的答案。",
    "Japanese": "まず二つの数を足してから三つ目の数を引き、その結果を二で割ると答えになります。",
    "Arabic": "نجمع العددين أولا ثم نطرح العدد الثالث ونقسم الناتج على اثنين لنحصل على الجواب.",
    "Hindi": "पहले दोनों संख्याओं को जोड़ें, फिर तीसरी संख्या घटाएँ और परिणाम को दो से भाग दें।",
    "Thai": "ก่อนอื่นให้บวกเลขสองตัวเข้าด้วยกัน แล้วลบด้วยเลขตัวที่สาม จากนั้นหารด้วยสอง",
    "Russian": "Сначала сложим два числа, потом вычтем третье, а результат разделим пополам.",
    "Greek": "Πρώτα προσθέτουμε τους δύο αριθμούς και μετά αφαιρούμε τον τρίτο.",
    "Hebrew": "תחילה נחבר את שני המספרים, אחר כך נחסר את השלישי ונחלק את התוצאה בשתיים.",
    "Korean": "먼저 두 수를 더한 다음 세 번째 수를 빼고 그 결과를 둘로 나누면 답이 됩니다.",
    "emoji": "Great work! 🎉🎉🎉 The family 👨‍👩‍👧‍👦 will be proud. 👍🏽",
}
FORMS = {
    "a line of dashes": "Result\n" + "-" * 120 + "\n42",
    "a table": "| n | n squared |\n|---|---|\n"
    + "".join(f"| {n} | {n * n} |\n" for n in range(40)),
    "code": "def f(x):\n    for i in x:\n        if x > i:\n            y = i\n    return y\n" * 3,
    "a list": "\n".join(f"{n}. Add {n} to the sum." for n in range(60)),
    "digits": "1/3 = 0." + "3" * 60,
    "laughter": "ha" * 20,
    "a cut character": "The price is 5 \ufffd",
    "zeros": "100" + "0" * 50,
    "nothing": "",
}
NONSENSE = {
    "one word for ever": "I think " + "the " * 60,
    "one sentence for ever": "Let me think again. " * 20,
    "a loop in the middle": "So: " + "aa bb " * 40 + "and then it went on.",
    "one letter": "x" * 300,
    "a Chinese loop": "好的" * 100,
    "control characters": "value\x00\x01",
    "broken characters": "\ufffd" * 5 + "abc",
    "unassigned characters": "\U000e0fff\U000e0ffe\U000e0ffd",
    "a border for ever": "=" * 600,
}


def completion(text: str | None, *calls: tuple[str, str], malformed: int = 0) -> CheckedCompletion:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        functions = [{"name": name, "arguments": arguments} for name, arguments in calls]
        message["tool_calls"] = [{"type": "function", "function": f} for f in functions]
    return CheckedCompletion(message=message, malformed_tool_calls=malformed, tools=TOOLS)


@pytest.mark.parametrize("text", [*PROSE.values(), *FORMS.values()], ids=[*PROSE, *FORMS])
def test_real_text_is_not_nonsense(text):
    assert failed_checks(completion(text), ["nonsense"]) == []


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
def test_loops_and_impossible_characters_are_nonsense(text):
    assert failed_checks(completion(text), ["nonsense"]) == ["nonsense"]


def test_reasoning_is_looked_at_as_well():
    message = {"role": "assistant", "content": "42", "reasoning_content": "wait, " * 60}
    looked_at = CheckedCompletion(message=message, malformed_tool_calls=0, tools=[])
    assert failed_checks(looked_at, ["nonsense"]) == ["nonsense"]


@pytest.mark.parametrize(
    ("checked", "expected"),
    [
        (completion("No call at all."), []),
        (completion(None, ("calculator", '{"expression": "1 + 1"}')), []),
        (completion(None, ("calculater", "{}")), ["wrong_toolcall"]),
        (completion(None, ("calculator", "[1]")), ["wrong_toolcall"]),
        (completion(None, ("calculator", '{"expression": ')), ["wrong_toolcall"]),
        (completion("<tool_call>{", malformed=1), ["wrong_toolcall"]),
    ],
)
def test_tool_calls(checked, expected):
    assert failed_checks(checked, ["wrong_toolcall"]) == expected


def test_non_ascii_means_any_character_outside_of_ascii():
    assert failed_checks(completion("naïve"), ["non_ascii"]) == ["non_ascii"]
    assert failed_checks(completion("naive\n\t~"), ["non_ascii"]) == []


def test_only_the_listed_rules_are_applied():
    bad = completion("é" * 300, ("none", "x"))
    assert failed_checks(bad, []) == []
    assert failed_checks(bad, list(CHECKS)) == ["nonsense", "wrong_toolcall", "non_ascii"]
