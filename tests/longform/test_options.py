"""What can be asked, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from lithophone.errors import OptionError
from lithophone.longform.options import TranscribeOptions, options_with
from lithophone.prompts import Transcribe, Translate


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
        ({"keywords": "one, two"}, "not one string"),
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


def test_translation_names_both_languages() -> None:
    options = TranscribeOptions(task="translate", language="English", to="french")
    assert options.task_for("granite_speech") == Translate(to="fr", language="en")
    assert options.text_language == "fr"
    assert TranscribeOptions(language="DE").text_language == "de"
