"""Options resolved against a model: layers of settings, what it cannot do, and the prompt in two halves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lithophone.checkpoint import Checkpoint
from lithophone.ctc.characters import N_LABELS, foreign_labels
from lithophone.decode.options import CTC, BeamSearch, Decoder, Edit, Greedy, Sampling, Speculative
from lithophone.errors import OptionError, PromptError
from lithophone.languages import TABLE
from lithophone.model.speech import GraniteSpeech
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.request import check_positions, ctc_heads, possible_decoders, resolve_request
from lithophone.text.prompts import Transcribe, build_prompt
from tests.tiny import randomise
from tests.tiny_checkpoint import tiny_checkpoint, tiny_nar_checkpoint

OWN = BeamSearch(num_beams=3, length_penalty=0.5, ctc_weight=0.3, keyword_boost=0.25, future_cost=0.8)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(bpe=True)


@pytest.fixture(scope="module")
def spelling() -> Checkpoint:
    """A random model with the family's characters."""
    made = tiny_checkpoint()
    config = replace(made.config, encoder_config=replace(made.config.encoder_config, output_dim=N_LABELS))
    return replace(made, network=randomise(GraniteSpeech(config), 3).eval(), config=config)


def decoder(checkpoint: Checkpoint, **options: Any) -> Decoder:
    return resolve_request(checkpoint, TranscribeOptions(**options)).decoder


TRANSLATE = {"task": "translate", "to": "fr"}


def test_a_model_names_what_it_can_do(checkpoint: Checkpoint, spelling: Checkpoint) -> None:
    assert possible_decoders(checkpoint) == ("speculative", "greedy", "beam", "sample", "ctc")
    assert possible_decoders(tiny_nar_checkpoint("G2")) == ("edit", "ctc")
    assert possible_decoders(tiny_checkpoint()) == ("greedy", "beam", "sample")
    assert ctc_heads(checkpoint) == ("bpe",)
    assert ctc_heads(spelling) == ("characters",)
    assert ctc_heads(tiny_checkpoint()) == ()


def test_the_default_decoder_is_the_models(checkpoint: Checkpoint, spelling: Checkpoint) -> None:
    assert decoder(checkpoint) == Speculative()
    assert decoder(checkpoint, **TRANSLATE) == Greedy()
    assert decoder(tiny_checkpoint()) == Greedy()
    assert decoder(tiny_nar_checkpoint("G1")) == Edit()
    own = replace(spelling, beams=OWN)
    assert decoder(own) == OWN
    assert decoder(own, max_new_tokens=7) == replace(OWN, max_new_tokens=7)
    assert decoder(own, **TRANSLATE) == Greedy()
    assert decoder(own, decode="greedy") == Greedy()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"decode": "beam"}, OWN),
        ({"num_beams": 4}, replace(OWN, num_beams=4)),
        ({"num_beams": 2}, replace(OWN, num_beams=2)),
        ({"keyword_boost": 0.0}, replace(OWN, keyword_boost=0.0)),
        ({"decode": "beam", "future_cost": 0.1}, replace(OWN, future_cost=0.1)),
        ({"ctc_weight": 0.0}, BeamSearch(num_beams=3, length_penalty=0.5)),
        ({"decode": "beam", **TRANSLATE}, BeamSearch(num_beams=3, length_penalty=0.5)),
        ({"decode": "beam", "num_beams": 5, **TRANSLATE}, BeamSearch(num_beams=5, length_penalty=0.5)),
    ],
)
def test_one_option_changes_one_setting_of_the_models_beams(
    spelling: Checkpoint, options: dict[str, Any], expected: BeamSearch
) -> None:
    assert decoder(replace(spelling, beams=OWN), **options) == expected


def test_without_beams_of_its_own_a_model_has_the_defaults_of_the_decoder(spelling: Checkpoint) -> None:
    assert decoder(spelling, decode="beam") == BeamSearch()
    assert decoder(spelling, decode="beam", ctc_weight=0.2) == BeamSearch(ctc_weight=0.2)
    assert decoder(spelling, decode="sample", seed=0) == Sampling()
    assert decoder(spelling, decode="speculative", punctuate=False, tau_ctc=0.5) == Speculative(tau_ctc=0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_beams": 4}, "num_beams goes with decode='beam', and this model decodes with 'speculative' unless"),
        ({"num_beams": 2}, "num_beams goes with decode='beam'"),
        ({"lookahead": 16, **TRANSLATE}, "lookahead goes with decode='speculative'"),
        ({"decode": "beam", "ctc_weight": 0.3}, "ctc_weight needs the family's character head"),
        ({"decode": "beam", "keyword_boost": 0.5}, "keyword_boost is 0.5 and ctc_weight 0"),
        ({"decode": "edit"}, "cannot do decode='edit': it can do speculative, greedy, beam, sample, ctc"),
        ({"decode": "ctc", "ctc_head": "characters"}, "no head 'characters': it has bpe"),
        ({"task": "speakers"}, "granite_speech_plus"),
        ({"foreign_penalty": 9.0, "language": "ja"}, "foreign_penalty needs the family's character head"),
        ({"keywords": tuple(f"stone{i}" for i in range(400))}, "the prompt takes .* name fewer keywords"),
    ],
)
def test_what_a_model_cannot_do_is_refused(checkpoint: Checkpoint, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        resolve_request(checkpoint, TranscribeOptions(**options))


def test_beams_by_characters_are_for_transcripts_only(spelling: Checkpoint) -> None:
    with pytest.raises(OptionError, match="ctc_weight goes with task 'transcribe'"):
        resolve_request(spelling, TranscribeOptions(decode="beam", ctc_weight=0.3, **TRANSLATE))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"punctuate": True}, "takes no prompt"),
        ({"keywords": ("stone",)}, "takes no prompt"),
        (TRANSLATE, "takes no prompt"),
        ({"decode": "greedy"}, "it can do edit, ctc"),
        ({"max_new_tokens": 5}, "max_new_tokens goes with decode='greedy'"),
        ({"num_beams": 2}, "num_beams goes with decode='beam', and this model decodes with 'edit'"),
    ],
)
def test_a_model_that_edits_takes_no_prompt(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        resolve_request(tiny_nar_checkpoint("G2"), TranscribeOptions(**options))


def test_a_prompt_is_rendered_once_in_two_halves(checkpoint: Checkpoint) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(keywords=("granite",)))
    slot = checkpoint.tokenizer.audio_id
    for n in (1, 7):
        whole = build_prompt(request.task, checkpoint.tokenizer, checkpoint.config.model_type, n)
        assert [*request.before, *[slot] * n, *request.behind] == whole
    assert "granite" in checkpoint.tokenizer.decode(request.behind)
    nar = resolve_request(tiny_nar_checkpoint("G2"), TranscribeOptions())
    assert (nar.before, nar.behind) == ((), ())


def test_letters_of_other_languages_cost_what_was_asked_or_what_the_model_says(spelling: Checkpoint) -> None:
    ours = replace(spelling, foreign_penalty=20.0)
    assert resolve_request(ours, TranscribeOptions()).bias is None
    assert resolve_request(spelling, TranscribeOptions(language="ja")).bias is None
    assert resolve_request(ours, TranscribeOptions(language="ja", foreign_penalty=0.0)).bias is None
    for nats, options in ((20.0, TranscribeOptions(language="ja")), (5.0, TranscribeOptions("transcribe", "ja"))):
        bias = resolve_request(replace(spelling, foreign_penalty=nats), options).bias
        assert bias is not None
        assert bias.language_id is None
        assert set(bias.penalty.nonzero()[:, -1].tolist()) == set(foreign_labels("ja"))
        assert bias.penalty.unique().tolist() == [0.0, nats]
    asked = resolve_request(ours, TranscribeOptions(language="ja", foreign_penalty=5.0)).bias
    assert asked is not None
    assert asked.penalty.max() == 5.0


def test_a_model_with_language_ids_gets_that_of_the_language(spelling: Checkpoint, checkpoint: Checkpoint) -> None:
    bias = resolve_request(replace(spelling, language_ids=True), TranscribeOptions(language="pt")).bias
    assert bias is not None
    assert bias.language_id is not None
    assert bias.language_id.nonzero()[:, -1].tolist() == [TABLE["pt"].id]
    assert resolve_request(replace(spelling, language_ids=True), TranscribeOptions()).bias is None
    assert resolve_request(replace(checkpoint, foreign_penalty=9.0), TranscribeOptions(language="pt")).bias is None


def test_a_request_carries_what_follows_from_options(spelling: Checkpoint, checkpoint: Checkpoint) -> None:
    plain = resolve_request(spelling, TranscribeOptions())
    assert (plain.word_times, plain.is_spelled, plain.keywords) == (False, True, None)
    assert (plain.batch_size, plain.limit_s, plain.text_language, plain.task_name) == (8, 30.0, None, "transcribe")
    options = TranscribeOptions(
        language="German", word_timestamps=True, max_new_tokens=9, batch_size=2, limit_s=10.0, keywords=("stone",),
        decode="beam", ctc_weight=0.3, keyword_boost=0.5,
    )  # fmt: skip
    asked = resolve_request(spelling, options)
    assert (asked.word_times, asked.batch_size, asked.limit_s) == (True, 2, 10.0)
    assert (asked.text_language, asked.task) == ("de", Transcribe(keywords=("stone",), language="de"))
    assert asked.keywords
    translated = resolve_request(checkpoint, TranscribeOptions(**TRANSLATE))
    assert (translated.is_spelled, translated.task_name, translated.text_language) == (False, "translate", "fr")
    times = resolve_request(tiny_checkpoint("plus"), TranscribeOptions(task="word-times"))
    assert (times.word_times, times.task_name) == (True, "word-times")


def test_heads_of_drafts_and_of_ctc(checkpoint: Checkpoint, spelling: Checkpoint) -> None:
    assert resolve_request(checkpoint, TranscribeOptions()).head == "bpe"
    assert resolve_request(spelling, TranscribeOptions()).head == "characters"
    asked = resolve_request(spelling, TranscribeOptions(decode="ctc", ctc_head="characters"))
    assert (asked.head, asked.decoder) == ("characters", CTC("characters"))
    assert resolve_request(tiny_checkpoint(), TranscribeOptions()).head is None


@pytest.mark.parametrize("kind", ["base", "nar"])
def test_a_window_must_leave_room_for_a_reply(kind: str, checkpoint: Checkpoint) -> None:
    model = checkpoint if kind == "base" else tiny_nar_checkpoint("G3")
    request = resolve_request(model, TranscribeOptions())
    check_positions(model, request, 16_000 * 10)
    with pytest.raises(PromptError, match=r"a window of 60\.0 s and its prompt take \d+ positions, the model has 512"):
        check_positions(model, request, 16_000 * 60)
