"""Bodies of `POST /v1/chat/completions`: one recording, an instruction, and options. Everything odd is ApiError 400."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from lithophone.decode.options import MAX_WHOLE, check_whole
from lithophone.errors import OptionError
from lithophone.pipeline.options import TranscribeOptions
from lithophone.server.errors import ApiError
from lithophone.server.fetch import Fetcher
from lithophone.server.forms import decoded_base64
from lithophone.server.instructions import options_of_instruction, without_keywords
from lithophone.server.options import IGNORED, OPTION_TYPES, last, request_options, texts_of

OWN = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "n",
     "logprobs", "response_format", "modalities", "use_beam_search"}
)  # fmt: skip
"""Fields read here, beside those of TranscribeOptions."""

ACCEPTED = IGNORED | frozenset(
    {
        # OpenAI's
        "audio", "function_call", "functions", "logit_bias", "metadata", "moderation", "parallel_tool_calls",
        "prediction", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "safety_identifier",
        "service_tier", "stop", "store", "tool_choice", "tools", "top_logprobs", "verbosity", "web_search_options",
        # vLLM's
        "add_generation_prompt", "add_special_tokens", "allowed_token_ids", "bad_words", "cache_salt",
        "chat_template", "chat_template_kwargs", "continue_final_message", "documents", "echo", "guided_choice",
        "guided_decoding_backend", "guided_grammar", "guided_json", "guided_regex", "guided_whitespace_pattern",
        "ignore_eos", "include_reasoning", "include_stop_str_in_output", "kv_transfer_params", "logits_processors",
        "media_io_kwargs", "min_tokens", "mm_processor_kwargs", "priority", "prompt_logprobs", "request_id",
        "return_token_ids", "return_tokens_as_token_ids", "skip_special_tokens", "spaces_between_special_tokens",
        "stop_token_ids", "structural_tag", "structured_outputs", "truncate_prompt_tokens",
    }
)  # fmt: skip
"""Fields of OpenAI's and vLLM's chat that mean nothing for a transcript."""

KNOWN = frozenset({*OWN, *ACCEPTED, *OPTION_TYPES})
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
AUDIO_PARTS = ("input_audio", "audio_url")


@dataclass(frozen=True)
class AudioPart:
    """Where the recording of a request is."""

    param: str
    """Its place in the body, for messages."""
    data: str = ""
    """base64."""
    url: str = ""

    async def read(self, fetcher: Fetcher) -> bytes:
        """The bytes of the file. Raises ApiError."""
        if self.url and self.url[:5].lower() != "data:":
            data = await fetcher.fetch(self.url, self.param)
        else:
            text = _base64_of(self.url, self.param) if self.url else self.data
            data = await asyncio.to_thread(decoded_base64, text, self.param)
        if not data:
            raise ApiError(
                400, f"{self.param} is empty (0 bytes): send a recording", code="empty_file", param=self.param
            )
        return data


@dataclass(frozen=True)
class ChatRequest:
    """A request, read and checked, its recording not yet."""

    audio: AudioPart
    options: TranscribeOptions
    model: str | None
    words: str
    """All text of the user."""
    stream: bool
    with_usage: bool
    """Whether a stream ends with the usage."""
    max_tokens: int | None
    """Of the whole reply; windows have budgets of their own."""
    logprobs: bool


def chat_request(body: dict[str, Any]) -> ChatRequest:
    """Raises ApiError."""
    _check_names(body)
    conversation = _conversation(body.get("messages"))
    _check_refused(body)
    stream_options = _typed(body, "stream_options", dict) or {}
    logprobs = bool(_typed(body, "logprobs", bool))
    return ChatRequest(
        audio=conversation.audio_part(),
        options=_options(body, conversation, logprobs),
        model=_typed(body, "model", str),
        words="\n".join(text for text in conversation.user_texts if text.strip()),
        stream=bool(_typed(body, "stream", bool)),
        with_usage=bool(_typed(stream_options, "include_usage", bool, "stream_options.")),
        max_tokens=_max_tokens(body),
        logprobs=logprobs,
    )


# --- messages


@dataclass(frozen=True)
class _Conversation:
    audio: tuple[AudioPart, ...] = ()
    user_texts: tuple[str, ...] = ()
    instruction: str = ""
    """Text of the last user message."""
    keywords: tuple[str, ...] = ()
    """Of system messages."""

    def audio_part(self) -> AudioPart:
        if len(self.audio) != 1:
            found = f"{len(self.audio)} recordings" if self.audio else "no recording"
            message = f"the messages hold {found}: send one part of type input_audio or audio_url"
            raise ApiError(400, message, code="invalid_audio_count", param="messages")
        return self.audio[0]


def _conversation(messages: Any) -> _Conversation:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "a list of messages", messages)
    conversation = _Conversation()
    for number, message in enumerate(messages):
        conversation = _with_message(conversation, message, f"messages[{number}]")
    return conversation


def _with_message(conversation: _Conversation, message: Any, param: str) -> _Conversation:
    if not isinstance(message, dict):
        raise _wrong(param, "an object", message)
    role = message.get("role")
    if role not in ROLES:
        raise _wrong(f"{param}.role", " or ".join(ROLES), role)
    content = message.get("content")
    if content is None and role in ("assistant", "function"):
        return conversation
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise _wrong(f"{param}.content", "a text or a list of parts", content)
    read = [_part(part, f"{param}.content[{number}]") for number, part in enumerate(parts)]
    audio = tuple(part for part in read if isinstance(part, AudioPart))
    text = "\n".join(part for part in read if isinstance(part, str))
    if audio and role != "user":
        raise ApiError(
            400, f"{param} is of role {role}: recordings belong to a user", code="invalid_value", param=param
        )
    if role == "user":
        texts = (*conversation.user_texts, text)
        return replace(conversation, audio=conversation.audio + audio, user_texts=texts, instruction=text)
    if role in ("system", "developer"):
        return replace(conversation, keywords=conversation.keywords + without_keywords(text)[1])
    return conversation


def _part(part: Any, param: str) -> AudioPart | str:
    """A part with its type, or in vLLM's short form without."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise _wrong(param, "an object", part)
    kind = part.get("type") or next((name for name in ("text", "refusal", *AUDIO_PARTS) if name in part), None)
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise _wrong(f"{param}.{kind}", "a text", text)
        return text
    if kind == "input_audio":
        return _input_audio(part.get(kind), f"{param}.input_audio")
    if kind == "audio_url":
        return _audio_url(part.get(kind), f"{param}.audio_url")
    raise _wrong(f"{param}.type", "text, input_audio or audio_url", kind)


def _input_audio(value: Any, param: str) -> AudioPart:
    if not isinstance(value, dict):
        raise _wrong(param, "an object with data and format", value)
    _typed(value, "format", str, f"{param}.")  # of no use: the content shows it
    data = value.get("data")
    if not isinstance(data, str):
        raise _wrong(f"{param}.data", "a base64 text", data)
    return AudioPart(f"{param}.data", **({"url": data} if data[:5].lower() == "data:" else {"data": data}))


def _audio_url(value: Any, param: str) -> AudioPart:
    if isinstance(value, dict):
        value, param = value.get("url"), f"{param}.url"
    if not isinstance(value, str) or not value.strip():
        raise _wrong(param, "a data: or https: URL", value)
    return AudioPart(param, url=value.strip())


def _base64_of(url: str, param: str) -> str:
    """What follows `data:audio/wav;base64,`."""
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        message = f"{param} is a data: URL without base64: expected data:audio/wav;base64,..."
        raise ApiError(400, message, code="invalid_data_url", param=param)
    return data


# --- fields


def _check_names(body: dict[str, Any]) -> None:
    for name in body:
        if name not in KNOWN:
            raise ApiError(400, f"unknown field {name!r:.100}", code="unknown_parameter", param=name[:100])


def _check_refused(body: dict[str, Any]) -> None:
    """ApiError for what would change the reply and cannot be done."""
    if (_whole(body, "n") or 1) != 1:
        raise _unsupported("n", "there is one transcript of a recording: n must be 1")
    kind = (_typed(body, "response_format", dict) or {"type": "text"}).get("type")
    if kind != "text":
        raise _unsupported("response_format", "a chat reply is a text: use type text, or /v1/audio/transcriptions")
    if any(one != "text" for one in _typed(body, "modalities", list) or ()):
        raise _unsupported("modalities", "a reply is a text: modalities must be text")


def _options(body: dict[str, Any], conversation: _Conversation, logprobs: bool) -> TranscribeOptions:
    """Options of the instruction; fields of the body come before them."""
    asked = options_of_instruction(conversation.instruction)
    keywords = (*asked.pop("keywords", ()), *conversation.keywords)
    _typed(body, "use_beam_search", bool)
    fields = texts_of({name: value for name, value in body.items() if name in (*OPTION_TYPES, "use_beam_search")})
    transcribes = (last(fields, "task") or asked.get("task", "transcribe")) == "transcribe"
    timed = True if logprobs and transcribes else None
    return request_options(fields, asked, keywords=keywords, word_timestamps=timed)


def _max_tokens(body: dict[str, Any]) -> int | None:
    found = [_whole(body, name) for name in ("max_completion_tokens", "max_tokens")]
    return next((number for number in found if number is not None), None)


def _whole(body: dict[str, Any], name: str) -> int | None:
    """A whole number of 1 or more. Raises ApiError."""
    number: int | None = _typed(body, name, int)
    if number is not None:
        try:
            check_whole(name, number, most=MAX_WHOLE)
        except OptionError as error:
            raise ApiError(400, str(error), code="invalid_value", param=name) from error
    return number


KINDS = {bool: "true or false", int: "a whole number", str: "a text", list: "a list", dict: "an object"}


def _typed(values: dict[str, Any], name: str, kind: type[Any], prefix: str = "") -> Any:
    """The value if it has that type, None where there is none. Raises ApiError."""
    value = values.get(name)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise _wrong(f"{prefix}{name}", KINDS[kind], value)
    return value


def _wrong(param: str, expected: str, value: Any) -> ApiError:
    if value is None:
        return ApiError(400, f"{param} is missing: expected {expected}", code="missing_parameter", param=param)
    shown = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return ApiError(400, f"{param} is {shown:.80}: expected {expected}", code="invalid_value", param=param)


def _unsupported(param: str, message: str) -> ApiError:
    return ApiError(400, message, code="unsupported_value", param=param)
