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
from lithophone.pipeline.request import POSITIONS_PER_S, check_positions, ctc_heads, possible_decoders, resolve_request
from lithophone.text.prompts import Transcribe, build_prompt
from tests.tiny import randomise
from tests.tiny_checkpoint import spelling_plus, tiny_checkpoint, tiny_nar_checkpoint

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
    assert decoder(own, decode="greedy") == Greedy(ctc_weight=0.3, keyword_boost=0.25, future_cost=0.8)
    assert decoder(own, decode="greedy", ctc_weight=0.0) == Greedy()
    assert decoder(own, decode="greedy", future_cost=0.1).future_cost == 0.1
    assert decoder(own, decode="greedy", **TRANSLATE) == Greedy()


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
        ({"decode": "greedy", "ctc_weight": 0.3}, "ctc_weight needs the family's character head"),
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


@pytest.mark.parametrize("decode", ["greedy", "beam"])
def test_a_search_by_characters_is_for_transcripts_only(spelling: Checkpoint, decode: str) -> None:
    with pytest.raises(OptionError, match="ctc_weight goes with task 'transcribe'"):
        resolve_request(spelling, TranscribeOptions(decode=decode, ctc_weight=0.3, **TRANSLATE))


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


@pytest.fixture(scope="module")
def plus() -> Checkpoint:
    return spelling_plus()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"language": "ja", "task": "word-times"}, r"knows no Japanese; allowed are en"),
        ({"language": "ja"}, r"knows no Japanese"),
        (TRANSLATE, "does not translate"),
        ({"task": "word-times", "limit_s": 211.0}, "limit_s is 211: .* at most 210 s long with task 'word-times'"),
        ({"task": "speakers", "limit_s": 541.0}, "limit_s is 541: .* at most 540 s long with task 'speakers'"),
        ({"limit_s": 600.0}, "at most 540 s long with task 'transcribe'"),
        ({"timestamps": "tags", "word_timestamps": True}, "timestamps='tags' goes with task 'word-times'"),
        ({"task": "speakers", "timestamps": "tags"}, "timestamps='tags' goes with task 'word-times'"),
    ],
)
def test_what_a_plus_model_cannot_do_is_refused(plus: Checkpoint, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        resolve_request(plus, TranscribeOptions(**options))


def test_more_audio_than_positions_is_refused(plus: Checkpoint) -> None:
    request = resolve_request(plus, TranscribeOptions(task="speakers", limit_s=540.0))
    with pytest.raises(PromptError, match=r"a window of 540\.0 s and its prompt take \d+ positions, the model has 512"):
        check_positions(plus, request, 16_000 * 540)


def test_windows_of_speakers_are_as_long_as_the_model_allows(plus: Checkpoint) -> None:
    """A window keeps the numbers of the speakers."""
    text = plus.config.text_config
    for positions, limit_s in ((512, None), (4096, None), (16_384, 540.0)):
        config = replace(plus.config, text_config=replace(text, max_position_embeddings=positions))
        request = resolve_request(replace(plus, config=config), TranscribeOptions(task="speakers"))
        room_s = (positions - len(request.before) - len(request.behind)) / POSITIONS_PER_S
        assert request.limit_s == (limit_s or room_s)
        assert request.joins_windows
    for options in (TranscribeOptions(), TranscribeOptions(task="word-times")):
        assert resolve_request(plus, options).limit_s == 30.0
    assert not resolve_request(plus, TranscribeOptions()).joins_windows
    assert resolve_request(plus, TranscribeOptions(task="word-times", limit_s=210.0)).limit_s == 210.0


def test_word_times_are_of_tags_where_there_are_tags(plus: Checkpoint, checkpoint: Checkpoint) -> None:
    def source(**options: Any) -> str:
        return resolve_request(plus, TranscribeOptions(**options)).timestamps

    assert source(task="word-times") == source(task="word-times", timestamps="tags") == "tags"
    assert source(task="word-times", timestamps="aligned") == source(word_timestamps=True) == "aligned"
    assert source(task="speakers") == "aligned"
    with pytest.raises(OptionError, match="timestamps='aligned' needs the family's character head"):
        resolve_request(checkpoint, TranscribeOptions(word_timestamps=True, timestamps="aligned"))


def test_a_budget_is_given_by_the_caller_alone(plus: Checkpoint) -> None:
    assert not resolve_request(plus, TranscribeOptions(task="speakers")).is_budget_given
    assert resolve_request(plus, TranscribeOptions(task="speakers", max_new_tokens=9)).is_budget_given
