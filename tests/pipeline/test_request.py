"""Which decoder a model takes, and what each makes of one batch: the fast ones give greedy's words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from lithophone.checkpoint import Checkpoint
from lithophone.ctc.characters import N_LABELS, foreign_labels
from lithophone.decode.ctc_greedy import character_posteriors
from lithophone.decode.options import CTC, BeamSearch, Decoder, Edit, Greedy, Sampling, Speculative
from lithophone.decode.reply import Reply
from lithophone.errors import OptionError
from lithophone.languages import TABLE
from lithophone.model.conformer import EncoderOutput
from lithophone.model.speech import GraniteSpeech
from lithophone.pipeline import request as decoders
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.request import ctc_heads, encoder_bias, possible_decoders, replies_of, settled_decoder
from lithophone.pipeline.transcriber import Transcriber
from lithophone.text.prompts import Task, Transcribe, Translate
from tests.sounds import tone
from tests.tiny import randomise, tiny_frames
from tests.tiny_checkpoint import tiny_checkpoint, tiny_nar_checkpoint

RAW, PUNCTUATED = Transcribe(punctuate=False), Transcribe()
LENGTHS = (220, 41, 137, 301)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    made = tiny_checkpoint(bpe=True)
    made.network.eval()
    return made


@pytest.fixture(scope="module")
def encoded(checkpoint: Checkpoint) -> EncoderOutput:
    with torch.inference_mode():
        return checkpoint.network.encode(*tiny_frames(*LENGTHS))


def test_a_model_names_what_it_can_do(checkpoint: Checkpoint) -> None:
    assert possible_decoders(checkpoint) == ("speculative", "greedy", "beam", "sample", "ctc")
    assert possible_decoders(tiny_nar_checkpoint("G2")) == ("edit", "ctc")
    assert ctc_heads(checkpoint)[0] == "bpe"


def test_the_default_is_the_fast_one_and_greedy_for_translations(checkpoint: Checkpoint) -> None:
    options = TranscribeOptions()
    assert settled_decoder(checkpoint, options, PUNCTUATED) == Speculative()
    assert settled_decoder(checkpoint, options, Translate(to="fr")) == Greedy()
    assert settled_decoder(tiny_nar_checkpoint("G1"), options, RAW) == Edit()


def test_the_beams_of_the_folder_are_the_default_for_transcripts(checkpoint: Checkpoint) -> None:
    model = replace(checkpoint, beams=BeamSearch(num_beams=3, length_penalty=0.5))
    assert settled_decoder(model, TranscribeOptions(), RAW) == model.beams
    asked = TranscribeOptions(max_new_tokens=7)
    assert settled_decoder(model, asked, PUNCTUATED) == BeamSearch(7, num_beams=3, length_penalty=0.5)
    assert settled_decoder(model, TranscribeOptions(), Translate(to="fr")) == Greedy()
    assert settled_decoder(model, TranscribeOptions(decode="greedy"), RAW) == Greedy()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"decode": "beam", "ctc_weight": 0.3}, "ctc_weight needs the family's character head"),
        ({"decode": "edit"}, "cannot do decode='edit': it can do speculative, greedy, beam, sample, ctc"),
        ({"decode": "ctc", "ctc_head": "characters"}, "no head 'characters': it has bpe"),
    ],
)
def test_what_a_model_cannot_do_is_refused(checkpoint: Checkpoint, asked: dict[str, str], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        settled_decoder(checkpoint, TranscribeOptions(**asked), RAW)  # type: ignore[arg-type]


def test_labels_of_another_set_make_no_drafts() -> None:
    assert ctc_heads(tiny_checkpoint()) == ()
    assert possible_decoders(tiny_checkpoint()) == ("greedy", "beam", "sample")


@pytest.fixture(scope="module")
def spelling() -> Checkpoint:
    """A random model with the family's characters; its BPE head is left out, so that these are what it spells."""
    made = tiny_checkpoint()
    config = replace(made.config, encoder_config=replace(made.config.encoder_config, output_dim=N_LABELS))
    return replace(made, network=randomise(GraniteSpeech(config), 3).eval(), config=config)


def test_letters_of_other_languages_cost_what_was_asked_or_what_the_model_says(spelling: Checkpoint) -> None:
    ours, options = replace(spelling, foreign_penalty=20.0), TranscribeOptions()
    japanese = Transcribe(punctuate=False, language="ja")
    for model, task in ((ours, RAW), (spelling, japanese)):
        assert encoder_bias(model, options, task) is None
    assert encoder_bias(ours, TranscribeOptions(foreign_penalty=0.0), japanese) is None
    for nats, asked in ((20.0, options), (5.0, TranscribeOptions(foreign_penalty=5.0))):
        told = encoder_bias(ours, asked, japanese)
        assert told is not None
        assert told.language_id is None
        assert set(told.penalty.nonzero()[:, -1].tolist()) == set(foreign_labels("ja"))
        assert told.penalty.unique().tolist() == [0.0, nats]


def test_a_model_that_knows_marks_gets_one_for_the_language_given(spelling: Checkpoint) -> None:
    ours = replace(spelling, language_ids=True)
    told = encoder_bias(ours, TranscribeOptions(), Transcribe(punctuate=False, language="pt"))
    assert told is not None
    assert told.language_id is not None
    assert told.language_id.nonzero()[:, -1].tolist() == [TABLE["pt"].id]
    assert encoder_bias(ours, TranscribeOptions(), RAW) is None


def test_a_penalty_for_other_labels_is_refused_where_it_is_asked_for(checkpoint: Checkpoint) -> None:
    assert encoder_bias(replace(checkpoint, foreign_penalty=9.0), TranscribeOptions(), RAW) is None
    with pytest.raises(OptionError, match="foreign_penalty needs the family's character head"):
        Transcriber(checkpoint).transcribe(tone(1.0), 16_000, language="ja", foreign_penalty=9.0)


def test_the_encoder_spells_the_language_given(spelling: Checkpoint, tones_are_speech: None) -> None:
    spelled = Transcriber(replace(spelling, foreign_penalty=1e4))
    options = TranscribeOptions(punctuate=False, decode="ctc", ctc_head="characters")

    def alphabets(language: str | None) -> set[bool]:
        text = spelled.transcribe(tone(3.0), 16_000, options=options, language=language).text
        return {ord(letter) < 256 for letter in text if letter.isalpha()}

    assert alphabets("ja") == {False}
    assert alphabets("fr") == {True}
    plain = Transcriber(spelling).transcribe(tone(3.0), 16_000, options=options)
    assert spelled.transcribe(tone(3.0), 16_000, options=options) == plain


def test_a_model_that_edits_takes_no_prompt() -> None:
    transcriber = Transcriber(tiny_nar_checkpoint("G2"))
    for asked in ({"punctuate": True}, {"keywords": ("stone",)}, {"task": "translate", "to": "fr"}):
        with pytest.raises(OptionError, match="takes no prompt"):
            transcriber.transcribe(tone(1.0), 16_000, **asked)
    with pytest.raises(OptionError, match="it can do edit, ctc"):
        transcriber.transcribe(tone(1.0), 16_000, decode="greedy")


@torch.inference_mode()
@pytest.mark.parametrize("task", [RAW, PUNCTUATED, Transcribe(punctuate=False, keywords=("stone",))])
def test_drafts_change_no_word(checkpoint: Checkpoint, encoded: EncoderOutput, task: Task) -> None:
    greedy = replies_of(checkpoint, encoded, character_posteriors(encoded), task, Greedy(20))
    drafted = replies_of(checkpoint, encoded, character_posteriors(encoded), task, Speculative(20))
    assert [(text, reply.ids) for text, reply in drafted] == [(text, reply.ids) for text, reply in greedy]
    assert all(reply.drafted for _, reply in drafted)


@torch.inference_mode()
def test_a_good_draft_saves_passes(
    checkpoint: Checkpoint, encoded: EncoderOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = replies_of(checkpoint, encoded, character_posteriors(encoded), RAW, Greedy(20))

    def all_but_one_right(_: Checkpoint, text: str, reply: Reply) -> Sequence[int]:
        ids = list(right.pop(0))
        ids[random.Random(0).randrange(len(ids))] += 1
        return ids

    right = [reply.ids for _, reply in greedy]
    monkeypatch.setattr(decoders, "_draft", all_but_one_right)
    drafted = replies_of(checkpoint, encoded, character_posteriors(encoded), RAW, Speculative(20))
    assert [reply.ids for _, reply in drafted] == [reply.ids for _, reply in greedy]
    assert sum(reply.passes for _, reply in drafted) < sum(reply.passes for _, reply in greedy) / 3


@torch.inference_mode()
def test_what_the_encoder_is_sure_of_needs_no_language_model(checkpoint: Checkpoint, encoded: EncoderOutput) -> None:
    spelled = replies_of(checkpoint, encoded, character_posteriors(encoded), RAW, CTC())
    assert all(text for text, _ in spelled)
    assert replies_of(checkpoint, encoded, character_posteriors(encoded), RAW, Speculative(20, tau_ctc=99.0)) == spelled
    greedy = replies_of(checkpoint, encoded, character_posteriors(encoded), RAW, Greedy(20))
    unsure = replies_of(checkpoint, encoded, character_posteriors(encoded), RAW, Speculative(20, tau_ctc=0.0))
    assert [text for text, _ in unsure] == [text for text, _ in greedy]


@torch.inference_mode()
@pytest.mark.parametrize(
    "decoder", [Greedy(8), Speculative(8), BeamSearch(8), Sampling(8), CTC("bpe"), CTC("characters")]
)
def test_a_batch_is_its_rows(checkpoint: Checkpoint, encoded: EncoderOutput, decoder: Decoder) -> None:
    together = replies_of(checkpoint, encoded, character_posteriors(encoded), RAW, decoder)
    for i, length in enumerate(LENGTHS):
        alone = checkpoint.network.encode(
            *tiny_frames(*LENGTHS)[0][i : i + 1, :length].split(1), torch.tensor([length])
        )
        [(text, reply)] = replies_of(checkpoint, alone, character_posteriors(alone), RAW, decoder)
        assert (text, reply.ids) == (together[i][0], together[i][1].ids)


@torch.inference_mode()
@pytest.mark.parametrize("generation", ["G1", "G2", "G3"])
def test_models_that_edit_transcribe(generation: str) -> None:
    transcriber = Transcriber(tiny_nar_checkpoint(generation))  # type: ignore[arg-type]
    samples = tone(2.5)
    assert transcriber.transcribe(samples, 16_000, word_timestamps=True).duration_s == pytest.approx(2.5)
    spelled = transcriber.transcribe(samples, 16_000, decode="ctc")
    assert transcriber.transcribe(samples, 16_000, decode="edit", editing_steps=3).duration_s == spelled.duration_s
