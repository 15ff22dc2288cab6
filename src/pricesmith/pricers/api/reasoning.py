"""Takes a model's reasoning off its reply, where a server has left it in.

    >>> strip_reasoning("<think>perhaps 30, or 40</think>\\n\\n25")
    '25'
    >>> strip_reasoning("It has 30 parts.\\n</think>\\n\\n25")          # the chat template opened it
    '25'
    >>> strip_reasoning("<think>perhaps 30, or 40") is None            # it never ended: there is no answer
    True

Known are tags (`<think>`, `<thinking>`, `<reasoning>`, `[THINK]`, `◁think▷`, `<|START_THINKING|>`, `<seed:think>` and
others), the channels of gpt-oss (harmony), also where a server has dropped its special tokens, and a tag round the
answer.
"""

from __future__ import annotations

import re

NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|analysis|scratchpad)"
OPEN = re.compile(
    rf"<\s*{NAMES}(?:\s[^<>]*)?>"
    r"|\[(?:THINK|THINKING|REASONING)\]|◁think▷|<\|(?:start_thinking|begin_of_thought)\|>"
    r"|<\|channel>(?:thought|analysis)|<unused94>",
    re.IGNORECASE,
)
CLOSE = re.compile(
    rf"<\s*/\s*{NAMES}\s*>"
    r"|\[/(?:THINK|THINKING|REASONING)\]|◁/think▷|<\|(?:end_thinking|end_of_thought)\|>"
    r"|<channel\|>|<unused95>",
    re.IGNORECASE,
)
# gpt-oss: <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...
FINAL = re.compile(
    r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>|assistantfinal(?:\s?json(?=\s*\{))?"
)
CHANNEL = re.compile(r"<\|channel\|>|\Aanalysis(?=[A-Z])|assistant(?:analysis|commentary)(?=[A-Z\s])")
ENDS = re.compile(
    r"(?:\s*(?:<\|(?:im_end|eot_id|eom_id|end|return|endoftext|end_of_text|end_of_turn|end_response|end_of_solution)\|>"
    r"|<(?:end_of_turn|eos|turn\|)>|</s>|\[/INST\]))+\s*\Z",
    re.IGNORECASE,
)
ROUND = re.compile(
    r"<(answer|response|output|final|final_answer)>(.*)</\1>|<\|(?:start_response|begin_of_solution)\|>(.*)",
    re.IGNORECASE | re.DOTALL,
)


def strip_reasoning(text: str) -> str | None:
    """What a reply says after its reasoning, without tokens that end it; None where the reasoning never ended."""
    said = ENDS.sub("", text.strip())
    finals = list(FINAL.finditer(said))
    if finals:
        said = said[finals[-1].end() :]
    elif CHANNEL.search(said):
        return None
    while (close := CLOSE.search(said)) is not None:
        start = OPEN.search(said)
        if start is not None and 0 < start.start() < close.start() and said[: start.start()].strip():
            break  # it said something before it reasoned, which is no answer by itself
        said = said[close.end() :]
    if OPEN.search(said) and not CLOSE.search(said):
        return None
    said = ENDS.sub("", said).strip()
    if (inner := ROUND.fullmatch(said)) is not None:
        said = (inner[2] if inner[2] is not None else inner[3]).strip()
    return said
