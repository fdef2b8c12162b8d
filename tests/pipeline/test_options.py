"""What can be asked, and what is refused with which words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lithophone.decode.options import BeamSearch, Decoder, Edit, Sampling, Speculative
from lithophone.errors import OptionError
from lithophone.pipeline.options import DECODERS, TranscribeOptions, fields_of, options_with
from lithophone.text.prompts import Transcribe, Translate


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "sing"}, "unknown task 'sing'; allowed are transcribe, translate"),
        ({"language": "Klingon"}, "unknown language 'Klingon'; allowed are"),
        ({"language": "it"}, "Italian"),
        ({"task": "translate"}, "needs the option 'to'"),
        ({"task": "translate", "to": "xx"}, "unknown language 'xx'"),
        ({"task": "translate", "language": "fr", "to": "de"}, "no translation from fr to de"),
        ({"to": "fr"}, "goes with task 'translate'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"limit_s": 0.5}, "limit_s is 0.5"),
        ({"limit_s": float("nan")}, "limit_s is nan"),
        ({"timestamps": "clock"}, "unknown timestamps 'clock'; there are tags, aligned"),
        ({"timestamps": "aligned"}, "goes with word_timestamps or task 'word-times'"),
        ({"foreign_penalty": -1.0}, "foreign_penalty is -1.0: it must be from 0 to 100 nats"),
        ({"foreign_penalty": 1e308}, r"foreign_penalty is 1e\+308: it must be from 0 to 100 nats"),
        ({"keywords": "one, two"}, "not one string"),
        ({"decode": "magic"}, "unknown decoder 'magic'; there are greedy, speculative, beam, sample, edit, ctc"),
        ({"decode": "ctc", "punctuate": True}, "raw transcripts"),
        ({"decode": "ctc", "keywords": ("stone",)}, "keywords"),
        ({"decode": "edit", "task": "translate", "to": "fr"}, "takes no prompt"),
        ({"decode": "ctc", "max_new_tokens": 9}, "max_new_tokens goes with decode='greedy'"),
        ({"decode": "ctc", "ctc_head": "words"}, "ctc_head is 'words'"),
        ({"num_beams": 1}, "num_beams is 1"),
        ({"decode": "greedy", "num_beams": 2}, "num_beams goes with decode='beam', and decode is 'greedy'"),
        ({"decode": "ctc", "keyword_boost": 0.0}, "keyword_boost goes with decode='greedy' or 'beam', and"),
        ({"decode": "beam", "lookahead": 16}, "lookahead goes with decode='speculative'"),
        ({"decode": "speculative", "ctc_weight": 0.3}, "ctc_weight goes with decode='greedy' or 'beam', and"),
        ({"decode": "greedy", "temperature": 1.0}, "temperature goes with decode='sample'"),
        ({"decode": "sample", "editing_steps": 1}, "editing_steps goes with decode='edit'"),
        ({"decode": "edit", "ctc_head": "bpe"}, "ctc_head goes with decode='ctc'"),
        ({"decode": "greedy", "tau_slm": 0.2}, "tau_slm goes with decode='speculative'"),
        ({"decode": "beam", "num_beams": 1}, "num_beams is 1"),
        ({"decode": "beam", "ctc_weight": 0.0, "keyword_boost": 0.5}, "keyword_boost is 0.5 and ctc_weight 0"),
        ({"ctc_weight": 0.0, "future_cost": 0.7}, "future_cost is 0.7 and ctc_weight 0"),
        ({"ctc_weight": 1.0}, "ctc_weight is 1.0"),
        ({"decode": "sample", "temperature": 0.0}, "temperature is 0.0"),
        ({"decode": "speculative", "tau_slm": 1.5, "punctuate": False}, "tau_slm is 1.5"),
        ({"decode": "speculative", "tau_ctc": -1.0, "punctuate": False}, "tau_ctc is -1.0"),
        ({"decode": "speculative", "tau_ctc": 0.7}, "needs punctuate=False"),
        ({"task": "translate", "to": "fr", "word_timestamps": True}, "word_timestamps"),
    ],
)
def test_refused_with_the_value_seen_and_the_values_allowed(values: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        TranscribeOptions(**values)


def test_an_unknown_option_is_not_dropped() -> None:
    with pytest.raises(OptionError, match="unknown option beam_size; there are task, language"):
        options_with(None, {"beam_size": 5})


def test_single_values_change_the_rest_stays() -> None:
    options = TranscribeOptions(language="fr", batch_size=2)
    assert options_with(options, {"batch_size": 3}) == TranscribeOptions(language="fr", batch_size=3)


def test_punctuation_is_left_to_the_model_unless_asked() -> None:
    assert TranscribeOptions().task_for("granite_speech") == Transcribe(punctuate=True)
    assert TranscribeOptions().task_for("granite_speech_plus") == Transcribe(punctuate=False)
    assert TranscribeOptions(punctuate=False).task_for("granite_speech") == Transcribe(punctuate=False)


@pytest.mark.parametrize(
    ("options", "punctuated"),
    [
        ({"language": "ja"}, False),
        ({"language": "ja-JP"}, False),
        ({"language": "ja", "punctuate": True}, True),
        ({"language": "en"}, True),
        ({}, True),
        ({"task": "translate", "language": "en", "to": "ja"}, True),
    ],
)
def test_raw_languages_of_a_checkpoint_are_not_punctuated_unless_asked(
    options: dict[str, Any], punctuated: bool
) -> None:
    task = TranscribeOptions(**options).task_for("granite_speech", raw_languages=("ja",))
    assert isinstance(task, Transcribe | Translate)
    assert task.punctuate == punctuated


def test_translation_names_both_languages() -> None:
    options = TranscribeOptions(task="translate", language="English", to="french")
    assert options.task_for("granite_speech") == Translate(to="fr", language="en")
    assert options.text_language == "fr"
    assert TranscribeOptions(language="DE").text_language == "de"


def test_only_what_was_given_is_given() -> None:
    assert TranscribeOptions().given(BeamSearch) == {}
    options = TranscribeOptions(decode="beam", num_beams=2, keyword_boost=0.0, max_new_tokens=7)
    assert options.given(BeamSearch) == {"num_beams": 2, "keyword_boost": 0.0}
    assert options.given(Speculative) == {}


@pytest.mark.parametrize("kind", DECODERS.values())
def test_every_setting_of_a_decoder_is_an_option(kind: type[Decoder]) -> None:
    assert fields_of(kind) - {"max_new_tokens_per_30s"} <= fields_of(TranscribeOptions)


WRONG = (object(), b"en", [], {}, 3.5, True, float("nan"), "text", None)


@pytest.mark.parametrize("name", sorted(fields_of(TranscribeOptions)))
def test_a_value_of_a_wrong_type_is_an_option_error(name: str) -> None:
    """Every field refuses all of these but those of its own type, and never with another error."""
    messages = []
    for value in WRONG:
        try:
            TranscribeOptions(**{name: value})
        except OptionError as error:
            messages.append(str(error))
    assert len(messages) >= 5
    assert sum(message.startswith(name) for message in messages) >= 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"limit_s": "30"}, "limit_s is '30': it must be a number"),
        ({"limit_s": float("inf")}, "limit_s is inf: it must be from 1 to 86400 s"),
        ({"limit_s": 1e308}, r"limit_s is 1e\+308: it must be from 1 to 86400 s"),
        ({"limit_s": True}, "limit_s is True: it must be a number"),
        ({"keywords": None}, "keywords is None: it must be a list of words"),
        ({"keywords": ("Dashwood", 7)}, "keywords holds 7: every keyword must be text"),
        ({"keywords": (None,)}, "keywords holds None"),
        ({"batch_size": "8"}, "batch_size is '8': it must be a whole number"),
        ({"batch_size": 8.0}, "batch_size is 8.0: it must be a whole number"),
        ({"punctuate": "no"}, "punctuate is 'no': it must be True or False or None"),
        ({"language": 5}, "language is 5: it must be text or None"),
        ({"task": []}, r"task is \[\]: it must be text"),
        ({"decode": ["beam"]}, "decode is .* it must be text or None"),
        ({"word_timestamps": 1}, "word_timestamps is 1: it must be True or False"),
    ],
)
def test_odd_values_say_what_is_allowed(values: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        TranscribeOptions(**values)


def test_whole_numbers_are_numbers_and_lists_are_tuples() -> None:
    options = TranscribeOptions(limit_s=10, ctc_weight=0, keywords=["stone", "stone "])  # type: ignore[arg-type]
    assert (options.limit_s, options.keywords) == (10, ("stone",))
    assert hash(options) == hash(dataclasses.replace(options))


def test_options_that_are_no_options_are_refused() -> None:
    with pytest.raises(OptionError, match="must be TranscribeOptions"):
        options_with({"language": "fr"}, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("tag", ["pt-BR", "pt_BR", "PT-br", "pt-PT"])
def test_region_tags_count_as_their_language(tag: str) -> None:
    assert TranscribeOptions(language=tag).text_language == "pt"
    assert TranscribeOptions(language=tag).task_for("granite_speech").language == "pt"


def test_region_tags_count_in_translations() -> None:
    options = TranscribeOptions(task="translate", language="en-GB", to="zh-Hant-TW")
    assert (options.text_language, options.task_for("granite_speech")) == ("zh", Translate(to="zh", language="en"))


def test_every_option_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(TranscribeOptions))


@pytest.mark.parametrize("kind", [BeamSearch, Speculative, Sampling, Edit])
def test_help_states_the_default_of_the_decoder(kind: type[Decoder]) -> None:
    for field in dataclasses.fields(TranscribeOptions):
        default = getattr(kind, field.name, None)
        if field.name in fields_of(kind) and default is not None:
            assert f"{default:g}" in field.metadata["help"]
