"""What can be asked, and what is refused with which words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lithophone.decode.options import CTC, BeamSearch, Edit, Greedy, Speculative
from lithophone.errors import OptionError
from lithophone.pipeline.options import TranscribeOptions, options_with
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
        ({"foreign_penalty": -1.0}, "foreign_penalty is -1.0: it must be 0 nats or more"),
        ({"keywords": "one, two"}, "not one string"),
        ({"decode": "magic"}, "unknown decoder 'magic'; there are greedy, speculative, beam, sample, edit, ctc"),
        ({"decode": "ctc", "punctuate": True}, "raw transcripts"),
        ({"decode": "ctc", "keywords": ("stone",)}, "keywords"),
        ({"decode": "edit", "task": "translate", "to": "fr"}, "takes no prompt"),
        ({"decode": "ctc", "max_new_tokens": 9}, "max_new_tokens goes with decode='greedy'"),
        ({"decode": "ctc", "ctc_head": "words"}, "ctc_head is 'words'"),
        ({"num_beams": 4}, "num_beams goes with decode='beam', and decode is None"),
        ({"decode": "greedy", "tau_slm": 0.2}, "tau_slm goes with decode='speculative'"),
        ({"decode": "beam", "num_beams": 1}, "num_beams is 1"),
        ({"decode": "beam", "keyword_boost": 0.5}, "keyword_boost is 0.5 and ctc_weight 0"),
        ({"decode": "beam", "future_cost": 0.7}, "future_cost is 0.7 and ctc_weight 0"),
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


def test_translation_names_both_languages() -> None:
    options = TranscribeOptions(task="translate", language="English", to="french")
    assert options.task_for("granite_speech") == Translate(to="fr", language="en")
    assert options.text_language == "fr"
    assert TranscribeOptions(language="DE").text_language == "de"


def test_a_decoder_gets_its_options_and_the_budget() -> None:
    options = TranscribeOptions(decode="beam", num_beams=3, max_new_tokens=7)
    assert options.decoder("beam", 2000) == BeamSearch(7, num_beams=3)
    assert TranscribeOptions().decoder("speculative", 2000) == Speculative(2000)
    assert TranscribeOptions().decoder("greedy") == Greedy()
    assert TranscribeOptions(decode="edit", editing_steps=2).decoder("edit") == Edit(2)
    assert TranscribeOptions().decoder("ctc", 2000) == CTC()


def test_every_option_says_what_it_is() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(TranscribeOptions))
