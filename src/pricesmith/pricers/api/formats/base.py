"""What the API formats share: a question, the parameters that an endpoint supports, a reply with its usage, an error.

A format turns a `ChatQuestion` into the body of a request and the body of a reply into a `ModelReply`. It is free of
network and state, so that the client and batch jobs build the same requests and read the same replies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from pricesmith.pricers.api.usage import Usage

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")  # from the least reasoning to the most
REASONING_TYPE = re.compile("think|thought|reason", re.IGNORECASE)  # the type of a message part
# Finish reasons of a reply that the endpoint itself interrupted: another try may bring it whole.
INTERRUPTED = frozenset({"error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource"})
OTHER_LIMIT_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
# Words of a status 400 by the parameter that it is about, in lower case; the formats have different names.
EFFORT_WORDS = ("reasoning_effort", "reasoning effort", "effort", "thinking_level", "thinkinglevel", "thinking level")
CACHE_WORDS = ("prompt_cache", "cache_control")
JSON_WORDS = (
    *("response_format", "schema", "structured", "output_config.format", "output_format"),
    *("responsemimetype", "response_mime_type", "json mode"),
)
SUPPORTED_VALUES = re.compile(r"\b(?:supported|allowed|valid|permitted) values?\b(.*)|(?:must|should) be one of(.*)")
PRICE_OBJECT = {
    "type": "object",
    "properties": {"price": {"type": "number"}},
    "required": ["price"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class ChatQuestion:
    """One question: a chat whose last message asks, the most output tokens of the answer, and how to answer.

    `schema` asks for a JSON number. The first `n_shared` messages are the same in every question of the pricer, so the
    provider may cache them. `extra_body` are further fields of the body.
    """

    model: str
    messages: Sequence[Mapping[str, str]]
    max_output_tokens: int
    reasoning_effort: str = ""
    schema: bool = True
    n_shared: int = 0
    extra_body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Capabilities:
    """The parameters that an endpoint supports, at first all of them.

    `limit` is its name for the token limit (chat completions only), `refused_efforts` are the values of
    `reasoning_effort` that it has refused.
    """

    json: bool = True
    temperature: bool = True
    limit: str = "max_tokens"
    prompt_cache: bool = True
    refused_efforts: tuple[str, ...] = ()

    def choose_effort(self, effort: str, supported: Sequence[str] = EFFORTS) -> str:
        """Return the supported effort nearest to the one asked for, the lower of two; empty if none is left."""
        rest = [name for name in supported if name not in self.refused_efforts]
        if not effort or not rest:
            return ""
        return min(rest, key=lambda name: abs(EFFORTS.index(name) - EFFORTS.index(effort)))

    def simplify(self, message: str, effort: str = "", *, schema: bool = True) -> Capabilities | None:
        """Return the parameters to try after a status 400 with `message`, in lower case; None if nothing is left.

        `effort` is the reasoning effort that was sent, empty if none was; `schema`: a JSON schema was to be sent. What
        was not sent is not to blame.
        """
        json = self.json and schema
        if effort and any(word in message for word in EFFORT_WORDS):
            return self.refuse_effort(effort, message)
        if self.prompt_cache and any(word in message for word in CACHE_WORDS):
            return replace(self, prompt_cache=False)
        if json and any(word in message for word in JSON_WORDS):
            return replace(self, json=False)
        if self.temperature and "temperature" in message:
            return replace(self, temperature=False)
        if self.limit in message:
            return replace(self, limit=OTHER_LIMIT_NAME[self.limit])
        if json:
            return replace(self, json=False)
        if self.temperature:
            return replace(self, temperature=False)
        return replace(self, refused_efforts=EFFORTS) if effort else None

    def refuse_effort(self, effort: str, message: str) -> Capabilities:
        """Return the parameters without this effort, or without any that the message does not list as supported.

        A message that names no value is about the parameter itself: then it is left out.
        """
        listed = SUPPORTED_VALUES.search(message)
        words = set(re.findall(r"[a-z]+", " ".join(part or "" for part in listed.groups()))) if listed else set()
        supported = words & set(EFFORTS)
        if supported and effort not in supported:
            refused = tuple(name for name in EFFORTS if name not in supported)
        elif re.search(rf"\b{effort}\b", message):
            refused = tuple(name for name in EFFORTS if name == effort or name in self.refused_efforts)
        else:
            refused = EFFORTS
        return replace(self, refused_efforts=refused)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], limit: str) -> Capabilities:
        """Return stored capabilities; the default, or the provider's name of the limit, for what is missing or odd."""
        stored = values.get("limit")
        efforts = values.get("refused_efforts")
        return cls(
            json=values.get("json") is not False,
            temperature=values.get("temperature") is not False,
            limit=stored if isinstance(stored, str) and stored in OTHER_LIMIT_NAME else limit,
            prompt_cache=values.get("prompt_cache") is not False,
            refused_efforts=tuple(name for name in EFFORTS if isinstance(efforts, list | tuple) and name in efforts),
        )


@dataclass(frozen=True)
class ModelReply:
    """The content of a reply. `finish` is the endpoint's finish reason, `refusal` if it says that the model refuses.

    `model` and `tier` are what the endpoint says it used, empty if it does not say. Nothing is masked or cut yet.
    """

    text: str
    finish: str
    usage: Usage
    model: str = ""
    tier: str = ""


@dataclass(frozen=True)
class ApiError:
    """Why there is no completion. `retry_after` in seconds is the endpoint's; `billed`: the endpoint may charge for it.

    The kinds: `retry` the request, `parameter` (the endpoint does not support one), `skip` this listing, or `stop` the
    command. `no_response`: nothing came back, not even a status. `hint` says what to do.
    """

    kind: Literal["retry", "parameter", "skip", "stop"]
    cause: str
    message: str = ""
    retry_after: float | None = None
    billed: bool = False
    no_response: bool = False
    hint: str = ""


class ApiFormat(Protocol):
    """How requests and replies of an API are written. `efforts` are the reasoning efforts that it has names for."""

    @property
    def name(self) -> str: ...

    @property
    def efforts(self) -> tuple[str, ...]: ...

    def path(self, model: str) -> str:
        """Return the path of a question below the base URL."""

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key (none without one) and the version of the API."""

    def request_body(self, question: ChatQuestion, capabilities: Capabilities) -> dict[str, Any]:
        """Return the body of a question, with the parameters that the endpoint supports."""

    def parse_reply(self, value: Any, max_tokens: float) -> ModelReply | ApiError:
        """Return the reply in a decoded body of status 200, or an error, which may be charged for.

        `max_tokens` output tokens were allowed. Raises TypeError, KeyError, IndexError or AttributeError if the body
        is not a reply of this format.
        """


def split_system(messages: Sequence[Mapping[str, str]]) -> tuple[str, list[Mapping[str, str]]]:
    """Return the text of the system messages, and the other messages."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    return system, [message for message in messages if message["role"] != "system"]


def find_cache_end(question: ChatQuestion, roles: Sequence[str]) -> int | None:
    """Return the index of the last shared example message of one of these roles; None without shared examples.

    A cache entry that ends there is read again by the next question.
    """
    shared = list(question.messages[: question.n_shared])
    if not any(message["role"] == "user" for message in shared):
        return None
    return max(index for index, message in enumerate(shared) if message["role"] in roles)


def message_text(content: Any) -> str:
    """Return the text of a message, one line for each part that is not reasoning.

    Parts are not joined directly: 120 and 150 would become 120150.
    """
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        texts = [part.get("text") for part in parts if not REASONING_TYPE.search(str(part.get("type")))]
        return "\n".join(text for text in texts if isinstance(text, str) and text)
    return content if isinstance(content, str) else ""


def to_text(value: Any) -> str:
    """Return a text of a reply; empty if it is none."""
    return value if isinstance(value, str) else ""
