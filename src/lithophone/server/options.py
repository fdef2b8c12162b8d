"""Fields of a request -> TranscribeOptions. Every option of the command line is a field by the same name."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from lithophone.decode.options import Sampling
from lithophone.errors import OptionError
from lithophone.formats import SUBTITLES, CueOptions
from lithophone.languages import TABLE
from lithophone.pipeline.options import TranscribeOptions
from lithophone.server.errors import ApiError

IGNORED = frozenset(
    {
        "user", "chunking_strategy", "known_speaker_names", "known_speaker_references", "n", "min_p",
        "frequency_penalty", "presence_penalty", "repetition_penalty", "without_timestamps", "vad_filter",
        "stream_include_usage", "stream_continuous_usage_stats", "vllm_xargs", "best_of",
        "beam_size", "condition_on_previous_text", "compression_ratio_threshold", "logprob_threshold",
        "no_speech_threshold", "max_completion_tokens", "encode",
    }
)  # fmt: skip
"""Fields of OpenAI's, vLLM's and Whisper's servers that mean nothing here, and are accepted."""

COMMON = (
    "model", "language", "languages", "prompt", "initial_prompt", "hotwords", "to_language", "temperature",
    "use_beam_search",
)  # fmt: skip
"""Fields that mean the same on every route, beside those of TranscribeOptions."""

TERM_WORDS = 4
"""Most words of a term in a prompt that is a list."""

OPTION_TYPES = get_type_hints(TranscribeOptions)
CUE_TYPES = get_type_hints(CueOptions)
SAMPLING = ("top_p", "top_k", "seed")
_COMBINED = {"language", "keywords", "decode", "temperature", "length_penalty", *SAMPLING}
"""Options that depend on several fields."""

YES, NO = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def request_options(
    fields: Mapping[str, Sequence[str]],
    defaults: Mapping[str, Any] | None = None,
    *,
    keywords: Sequence[str] = (),
    **given: Any,
) -> TranscribeOptions:
    """TranscribeOptions of the fields of any route. Raises ApiError with the field as param.

    A value that is `given` comes before the field of its name, and that before `defaults`, which hold for their task
    alone. `keywords` are added before those of the fields.
    """
    if "to_language" in fields:
        fields = {**fields, "task": ["translate"], "to": fields["to_language"]}
    task = last(fields, "task")
    values = {} if defaults is None or task not in (None, defaults.get("task")) else dict(defaults)
    values |= {
        name: typed(name, texts, OPTION_TYPES[name])
        for name, texts in fields.items()
        if name in OPTION_TYPES and name not in _COMBINED
    }
    combined = {"language": language_of(fields), "keywords": (*keywords, *_keywords(fields)), **_decoding(fields)}
    values |= {name: value for name, value in {**combined, **given}.items() if value not in (None, ())}
    try:
        return TranscribeOptions(**values)
    except OptionError as error:
        named = [name for name in values if re.search(rf"\b{re.escape(name)}\b", str(error))]
        raise ApiError(
            400, str(error), code="unsupported_value", param=named[0] if named else _param(str(error), values)
        ) from error


def cue_options(fields: Mapping[str, Sequence[str]], kind: str) -> CueOptions:
    """CueOptions of the fields of a route that answers with subtitles. Raises ApiError with the field as param.

    kind: the format of the reply; fields of cues are refused where they would change nothing.
    """
    given = {name: typed(name, texts, CUE_TYPES[name]) for name, texts in fields.items() if name in CUE_TYPES}
    if given and kind not in SUBTITLES:
        message = f"{', '.join(given)}: these lay out {' and '.join(SUBTITLES)}, and the reply is {kind}"
        raise ApiError(400, message, code="unsupported_value", param=next(iter(given)))
    try:
        return CueOptions(**given)
    except OptionError as error:
        raise ApiError(400, str(error), code="unsupported_value", param=str(error).partition(" ")[0]) from error


def _keywords(fields: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    terms: tuple[str, ...] = typed("keywords", _joined(fields, "keywords", "hotwords"), tuple[str, ...])
    return terms + keywords_of_prompt(" ".join(_joined(fields, "prompt", "initial_prompt")))


def _decoding(fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Sampling where the temperature is above 0, beams where vLLM's field asks for them, unless `decode` names another.

    Fields of sampling are left out of other decoders, and so is a neutral length_penalty: clients send them always.
    """
    temperature, sampling = temperature_of(fields), _sampling(fields)
    decode = last(fields, "decode")
    if decode is None:
        decode = "sample" if temperature else "beam" if flag(fields, "use_beam_search") else None
    found: dict[str, Any] = {"decode": decode}
    if "length_penalty" in fields:
        penalty = typed("length_penalty", fields["length_penalty"], float)
        found |= {"length_penalty": penalty} if penalty != 1 or decode not in (None, "sample") else {}
    if decode == "sample":
        found |= {"temperature": temperature} if "temperature" in fields else {}
        found |= sampling
    return found


def _sampling(fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Options of sampling but for the temperature, checked even where they have no effect. Raises ApiError."""
    values = {name: typed(name, fields[name], OPTION_TYPES[name]) for name in SAMPLING if name in fields}
    if values.get("top_k") in (-1, 0):  # vLLM: all
        del values["top_k"]
    try:
        Sampling(**values)
    except OptionError as error:
        raise ApiError(400, str(error), code="unsupported_value", param=str(error).partition(" ")[0]) from error
    return values


def _param(message: str, values: Mapping[str, Any]) -> str | None:
    """The field whose value the message has."""
    return next((name for name, value in values.items() if repr(value) in message), None)


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """ApiError for a field that nobody knows: a typing error would change the transcript in silence."""
    allowed = {*known, *COMMON, *OPTION_TYPES, *IGNORED}
    for name in names:
        if name.partition("[")[0] not in allowed:
            raise ApiError(400, f"unknown field {name!r:.100}", code="unknown_parameter", param=name[:100])


def typed(name: str, texts: Sequence[str], kind: Any) -> Any:
    """The last of the texts of a field as a value of that type; all of them for tuples. Raises ApiError."""
    if get_origin(kind) is tuple:
        return tuple(part for text in texts for part in text.split(","))
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return _scalar(name, texts[-1].strip(), next(one for one in kinds if one is not type(None)))


def _scalar(name: str, text: str, kind: type[Any]) -> Any:
    if kind is bool:
        if text.lower() not in YES | NO:
            raise ApiError(400, f"{name} is {text!r:.80}: expected true or false", code="invalid_value", param=name)
        return text.lower() in YES
    try:
        return kind(text)
    except ValueError as error:
        what = {int: "a whole number", float: "a number"}.get(kind, "a text")
        raise ApiError(400, f"{name} is {text!r:.80}: expected {what}", code="invalid_value", param=name) from error


def texts_of(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Fields of a JSON body as those of a form; null, "" and [] are left out. Raises ApiError for objects."""
    return {name: _texts(name, value) for name, value in values.items() if value is not None and value not in ("", [])}


def _texts(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    for one in values:
        if not isinstance(one, str | int | float):
            kind = "null" if one is None else "a list" if isinstance(one, list) else "an object"
            raise ApiError(
                400, f"{name[:100]!r} holds {kind}: expected a text or number", code="invalid_value", param=name[:100]
            )
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in values]


def language_of(fields: Mapping[str, Sequence[str]]) -> str | None:
    """`language`, as a code, a name of OpenAI's API or `auto`, or the only one of `languages`.

    Raises ApiError.
    """
    several = [part for text in fields.get("languages", []) for part in text.split(",")]
    if "language" in fields and several:
        raise ApiError(400, "language and languages exclude each other", code="invalid_value", param="languages")
    asked = fields["language"][-1] if "language" in fields else several[0] if len(several) == 1 else None
    names = {language.api_name: code for code, language in TABLE.items()}
    return names.get(asked.lower(), asked) if asked else None


def temperature_of(fields: Mapping[str, Sequence[str]]) -> float:
    """`temperature`, 0 where it is not given. Raises ApiError."""
    temperature: float = typed("temperature", fields.get("temperature", ["0"]), float)
    if not 0 <= temperature <= 2:
        raise ApiError(
            400, f"temperature is {temperature:g}: it must be from 0 to 2", code="invalid_value", param="temperature"
        )
    return temperature


def choice(fields: Mapping[str, Sequence[str]], name: str, allowed: Sequence[str], default: str) -> str:
    """The last value of a field, or the default. Raises ApiError."""
    value = last(fields, name) or default
    if value not in allowed:
        raise ApiError(
            400, f"{name} is {value!r:.80}: allowed are {', '.join(allowed)}", code="unsupported_value", param=name
        )
    return value


def last(fields: Mapping[str, Sequence[str]], name: str) -> str | None:
    """The last value of a field; None where there is none."""
    return fields[name][-1] if name in fields else None


def flag(fields: Mapping[str, Sequence[str]], name: str, *, default: bool = False) -> bool:
    """A field that is true or false. Raises ApiError."""
    value: bool = typed(name, fields[name], bool) if name in fields else default
    return value


def words_of_user(fields: Mapping[str, Sequence[str]]) -> str:
    """Texts of a request beside the recording, for the Guardian."""
    return "\n".join(_joined(fields, "prompt", "initial_prompt", "keywords", "hotwords"))


def _joined(fields: Mapping[str, Sequence[str]], *names: str) -> list[str]:
    return [text for name in names for text in fields.get(name, [])]


def keywords_of_prompt(prompt: str) -> tuple[str, ...]:
    """Terms that a prompt names: those of a list, else its names and terms with digits or inner capitals.

    The model takes keywords, and no other context: what is neither is left out.
    """
    parts = [part.strip(" .\"'") for part in re.split(r"[,;\n]|(?:^|\s)keywords?:", prompt, flags=re.IGNORECASE)]
    parts = [part for part in parts if part]
    if len(parts) > 1 and all(len(part.split()) <= TERM_WORDS for part in parts):
        return tuple(dict.fromkeys(parts))
    return tuple(dict.fromkeys(name for sentence in re.split(r"[.!?:]\s+|\n", prompt) for name in _names(sentence)))


def _names(sentence: str) -> list[str]:
    words = [word.strip(",;.!?\"'()") for word in sentence.split()]
    return [
        word
        for place, word in enumerate(words)
        if len(word) > 1 and (re.search(r"\w[A-Z]|\d", word) or (place and word[0].isupper()))
    ]
