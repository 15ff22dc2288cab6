"""How the fake endpoint speaks: requests, replies and errors in the form of each provider, from their documentation.

    with FakeEndpoint(style="anthropic") as fake:
        fake.endpoint()         at /v1/messages, with the key in x-api-key and errors of Anthropic's form

A style knows where a question stands in a request and which fields a reply has. It is written apart from the code that
it tests, and shares none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
API_VERSION = "2024-10-21"  # of Azure


@dataclass(frozen=True)
class FakeReply:
    """What a reply says: its text, why it ended, the tokens of input, of output, and of reasoning among the output."""

    number: int
    model: str
    text: str
    cut: bool
    tokens_in: int
    tokens_out: int
    reasoning: int


class ProviderStyle:
    """OpenAI's chat completions."""

    format: Literal["openai", "anthropic", "gemini"] = "openai"
    base = "/v1"
    path = "/chat/completions"

    def is_keyed(self, headers: Mapping[str, str], key: str) -> bool:
        """Return whether the headers, in lower case, hold the key as the provider wants it."""
        return headers.get("authorization") == f"Bearer {key}"

    def turns(self, body: Mapping[str, Any]) -> list[str]:
        """Return the texts of a request, the question last."""
        return [join_parts(turn["content"]) for turn in body["messages"]]

    def token_limit(self, body: Mapping[str, Any]) -> int:
        """Return the most output tokens of a request."""
        return int(body.get("max_completion_tokens") or body.get("max_tokens") or 4096)

    def usage(self, reply: FakeReply) -> dict[str, Any]:
        """Return the `usage` of a reply."""
        total = reply.tokens_in + reply.tokens_out
        return {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out, "total_tokens": total}

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        """Return the body of a reply; None for `usage` leaves it out."""
        message = {"role": "assistant", "content": reply.text}
        value = {
            "id": f"made-{reply.number}",
            "object": "chat.completion",
            "model": reply.model,
            "choices": [{"index": 0, "finish_reason": "length" if reply.cut else "stop", "message": message}],
        }
        return value | ({} if usage is None else {"usage": usage})

    def error(self, status: int, message: str) -> Any:
        """Return the body of an error."""
        return {"error": {"message": message, "type": "made", "code": None}}


class AnthropicStyle(ProviderStyle):
    """Anthropic's messages API."""

    format = "anthropic"
    path = "/messages"

    def is_keyed(self, headers: Mapping[str, str], key: str) -> bool:
        return headers.get("x-api-key") == key and "anthropic-version" in headers and "authorization" not in headers

    def turns(self, body: Mapping[str, Any]) -> list[str]:
        return [str(body.get("system", "")), *super().turns(body)]

    def token_limit(self, body: Mapping[str, Any]) -> int:
        return int(body["max_tokens"])

    def usage(self, reply: FakeReply) -> dict[str, Any]:
        return {
            "input_tokens": reply.tokens_in,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": reply.tokens_out,
            "output_tokens_details": {"thinking_tokens": reply.reasoning},
            "service_tier": "standard",
        }

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        thinking = [{"type": "thinking", "thinking": "About 30?", "signature": "made"}] * bool(reply.reasoning)
        return {
            "id": f"msg_{reply.number}",
            "type": "message",
            "role": "assistant",
            "model": reply.model,
            "content": [*thinking, {"type": "text", "text": reply.text}],
            "stop_reason": "max_tokens" if reply.cut else "end_turn",
            "stop_sequence": None,
            **({} if usage is None else {"usage": usage}),
        }

    def error(self, status: int, message: str) -> Any:
        kind = ANTHROPIC_ERRORS.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_made"}


class GeminiStyle(ProviderStyle):
    """Google's generateContent."""

    format = "gemini"
    base = "/v1beta"
    path = ":generateContent"

    def is_keyed(self, headers: Mapping[str, str], key: str) -> bool:
        return headers.get("x-goog-api-key") == key and "authorization" not in headers

    def turns(self, body: Mapping[str, Any]) -> list[str]:
        contents = [body["systemInstruction"]] if "systemInstruction" in body else []
        return ["\n".join(part["text"] for part in turn["parts"]) for turn in [*contents, *body["contents"]]]

    def token_limit(self, body: Mapping[str, Any]) -> int:
        return int(body["generationConfig"]["maxOutputTokens"])

    def usage(self, reply: FakeReply) -> dict[str, Any]:
        return {
            "promptTokenCount": reply.tokens_in,
            "candidatesTokenCount": reply.tokens_out - reply.reasoning,
            "thoughtsTokenCount": reply.reasoning,
            "totalTokenCount": reply.tokens_in + reply.tokens_out,
        }

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        parts = [{"text": "About 30?", "thought": True}] * bool(reply.reasoning)
        content = {"role": "model", "parts": [*parts, {"text": reply.text}]}
        candidate = {"index": 0, "content": content, "finishReason": "MAX_TOKENS" if reply.cut else "STOP"}
        value = {"candidates": [candidate], "modelVersion": "made-model", "responseId": f"made-{reply.number}"}
        return value | ({} if usage is None else {"usageMetadata": usage})

    def error(self, status: int, message: str) -> Any:
        return {"error": {"code": status, "message": message, "status": "MADE"}}


class GoogleStyle(ProviderStyle):
    """Google's OpenAI-compatible layer: errors in a list, and thinking tokens in the total alone."""

    base = "/v1beta/openai"

    def usage(self, reply: FakeReply) -> dict[str, Any]:
        total = reply.tokens_in + reply.tokens_out
        answer = reply.tokens_out - reply.reasoning
        return {"prompt_tokens": reply.tokens_in, "completion_tokens": answer, "total_tokens": total}

    def error(self, status: int, message: str) -> Any:
        return [{"error": {"code": status, "message": message, "status": "RESOURCE_EXHAUSTED"}}]


class XaiStyle(ProviderStyle):
    """xAI: the cost in ticks of 1e-10 US dollars, and errors with a text."""

    def usage(self, reply: FakeReply) -> dict[str, Any]:
        return super().usage(reply) | {"cost_in_usd_ticks": 20_000 * reply.tokens_in + 60_000 * reply.tokens_out}

    def error(self, status: int, message: str) -> Any:
        return {"code": "The caller does not have permission to execute the specified operation", "error": message}


class OpenRouterStyle(ProviderStyle):
    """OpenRouter: the provider that answered and the cost beside each reply."""

    base = "/api/v1"

    def usage(self, reply: FakeReply) -> dict[str, Any]:
        return super().usage(reply) | {"cost": 2e-6 * reply.tokens_in, "is_byok": False}

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        return super().reply(reply, usage) | {"provider": "Made"}

    def error(self, status: int, message: str) -> Any:
        return {"error": {"code": status, "message": message, "metadata": {"provider_name": "Made"}}}


class DeepSeekStyle(ProviderStyle):
    """DeepSeek: reasoning stands beside the content, and the input is counted by what the cache had."""

    def usage(self, reply: FakeReply) -> dict[str, Any]:
        read = reply.tokens_in // 2
        counts = {"prompt_cache_hit_tokens": read, "prompt_cache_miss_tokens": reply.tokens_in - read}
        return super().usage(reply) | counts

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        value = super().reply(reply, usage)
        value["choices"][0]["message"]["reasoning_content"] = "About 30, or 40?"
        return value


class MistralStyle(ProviderStyle):
    """Mistral: reasoning is a part of the content, and errors have a list of details."""

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        value = super().reply(reply, usage)
        thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "About 30, or 40?"}]}
        value["choices"][0]["message"]["content"] = [thinking, {"type": "text", "text": reply.text}]
        return value

    def error(self, status: int, message: str) -> Any:
        details = {"detail": [{"type": "extra_forbidden", "loc": ["body"], "msg": message}]}
        return {"object": "error", "message": details, "type": "invalid_request_error", "code": None}


class GroqStyle(ProviderStyle):
    """Groq: an answer that is not in the asked form is an error."""

    base = "/openai/v1"

    def error(self, status: int, message: str) -> Any:
        if status != 400 or "JSON" not in message:
            return super().error(status, message)
        error = {"message": message, "type": "invalid_request_error", "code": "json_validate_failed"}
        return {"error": error | {"failed_generation": '{"price": 24, "price'}}


class AzureStyle(ProviderStyle):
    """A deployment of Azure OpenAI with its version in the query and its key in `api-key`."""

    base = "/openai/deployments/made"
    path = f"/chat/completions?api-version={API_VERSION}"

    def is_keyed(self, headers: Mapping[str, str], key: str) -> bool:
        return headers.get("api-key") == key and "authorization" not in headers


class BedrockStyle(ProviderStyle):
    """Amazon Bedrock's OpenAI-compatible API: reasoning stands in the content."""

    base = "/openai/v1"

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        value = super().reply(reply, usage)
        value["choices"][0]["message"]["content"] = f"<reasoning>About 30, or 40?</reasoning>{reply.text}"
        return value

    def error(self, status: int, message: str) -> Any:
        return {"message": message}


class VllmStyle(ProviderStyle):
    """vLLM without a reasoning parser: the chat template opened the tag, so the reply only closes it."""

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        value = super().reply(reply, usage)
        value["choices"][0]["message"]["content"] = f"It has 30 parts.\n</think>\n\n{reply.text}"
        return value

    def error(self, status: int, message: str) -> Any:
        return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": status}


class LlamaServerStyle(ProviderStyle):
    """llama-server: the type of an error says that the prompt is too long."""

    def error(self, status: int, message: str) -> Any:
        kind = "exceed_context_size_error" if "context size" in message else "invalid_request_error"
        return {"error": {"code": status, "message": message, "type": kind}}


class OllamaStyle(ProviderStyle):
    """Ollama: a reply names it in its fingerprint."""

    def reply(self, reply: FakeReply, usage: dict[str, Any] | None) -> dict[str, Any]:
        return super().reply(reply, usage) | {"system_fingerprint": "fp_ollama"}


STYLES: dict[str, ProviderStyle] = {
    "openai": ProviderStyle(),
    "anthropic": AnthropicStyle(),
    "gemini": GeminiStyle(),
    "google": GoogleStyle(),
    "xai": XaiStyle(),
    "openrouter": OpenRouterStyle(),
    "deepseek": DeepSeekStyle(),
    "mistral": MistralStyle(),
    "groq": GroqStyle(),
    "azure": AzureStyle(),
    "bedrock": BedrockStyle(),
    "vllm": VllmStyle(),
    "llama-server": LlamaServerStyle(),
    "ollama": OllamaStyle(),
}


def join_parts(content: Any) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    return "\n".join(part["text"] for part in content) if isinstance(content, list) else str(content)
