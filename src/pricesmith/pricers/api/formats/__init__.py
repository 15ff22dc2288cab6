"""API formats: how a question is written and a reply is read, without network. The client and batch jobs share them.

    api_format = get_format("anthropic")
    body = api_format.request_body(ChatQuestion("claude-haiku-5-5", messages, 4096), Capabilities())
    reply = api_format.parse_reply(json.loads(data), 4096)

`openai` is the chat completions API, which most providers and servers have; `anthropic` is Anthropic's messages API;
`gemini` is Google's generateContent.
"""

from __future__ import annotations

from typing import Literal

from pricesmith.pricers.api.formats.base import ApiFormat
from pricesmith.pricers.api.formats.chat_completions import ChatCompletions
from pricesmith.pricers.api.formats.gemini_content import GeminiContent
from pricesmith.pricers.api.formats.messages import AnthropicMessages

FormatName = Literal["openai", "anthropic", "gemini"]
FORMATS: dict[str, ApiFormat] = {
    api_format.name: api_format for api_format in (ChatCompletions(), AnthropicMessages(), GeminiContent())
}


def get_format(name: FormatName) -> ApiFormat:
    """Return the format of this name."""
    return FORMATS[name]
