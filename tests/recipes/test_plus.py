"""The recipe from eight sung sentences to a folder that says when words end: where it starts, and what it learns."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

import lithophone
from lithophone.audio.features import FRAME_S, RATE_HZ
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.ctc.characters import N_LABELS, character_labels
from lithophone.data.manifest import read_entries
from lithophone.errors import OptionError
from lithophone.model.speech import GraniteSpeech
from lithophone.text.prompts import PLUS_SYSTEM, RAW, SPEAKERS, WORD_TIMES, Transcribe, WordTimes
from lithophone.text.replies import parse_word_times
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.clips import DecodedCorpus
from lithophone.train.data.plus_batches import PlusBatch
from lithophone.train.targets.plus_tags import ClusteredSpeakerTurns, word_time_reply
from lithophone.train.targets.prompt_reply import Example, TaskTarget
from lithophone.train.targets.time_tokens import Perturbation, TimeTokens
from lithophone.transcript import Word
from tests.conftest import ROOT
from tests.recipes.spoken import NOTE_S, SENTENCES, sing, write_songs
from tests.tiny import randomise, tiny_config, tiny_frames
from tests.tiny_checkpoint import tiny_checkpoint
from tests.tiny_tokenizer import SPECIAL

EDGE_S = 0.1
"""Silence in front of a song, which is the reason why every reply with times begins with one."""
COMMON = "--plain --workers 0 --device cpu --precision float32 --clusters 2"


@pytest.fixture(scope="module")
def plus() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "recipes"))
        yield importlib.import_module("plus")


def prompt_tokenizer() -> Tokenizer:
    """Words of the prompts are tokens, digits stand alone: rows are short, and a step takes no time."""
    core = tokenizers.Tokenizer(models.BPE())
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_of_words])
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator((PLUS_SYSTEM, RAW, SPEAKERS, WORD_TIMES), trainer)
    core.add_special_tokens(list(SPECIAL))
    settings = {"bos_token": SPECIAL[1], "eos_token": SPECIAL[1], "pad_token": SPECIAL[0]}
    return Tokenizer(core, settings, None)


@pytest.fixture(scope="module")
def base() -> Checkpoint:
    """A random base model with plain logits, so that it learns fast."""
    tokenizer, config = prompt_tokenizer(), tiny_config()
    text = replace(
        config.text_config, vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id, logits_scaling=1.0,
    )  # fmt: skip
    projector = replace(config.projector_config, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    config = replace(config, projector_config=projector, text_config=text, audio_token_index=tokenizer.audio_id)
    model = randomise(GraniteSpeech(config, bpe_labels=len(tokenizer) + 1))
    return Checkpoint(model, tokenizer, config, Path("base"))


def sung_words(text: str) -> list[Word]:
    """Every word from its first note to its last one."""
    words, at = [], 0
    for word in text.split():
        start_s = EDGE_S + NOTE_S * at
        words.append(Word(word, start_s, start_s + NOTE_S * len(word)))
        at += len(word) + 1
    return words


def write_timed_songs(folder: Path, speakers: int) -> Path:
    """Eight sentences with the times of their words, by so many singers; none: nobody is named."""
    rows: list[dict[str, object]] = [
        {
            "text": f"{text.capitalize()}.",
            "lang": "en",
            "speaker": f"s{i % speakers}" if speakers else None,
            "words": [{"text": word.text, "start": word.start_s, "end": word.end_s} for word in sung_words(text)],
        }
        for i, text in enumerate(SENTENCES)
    ]
    return write_songs(folder, rows)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_timed_songs(tmp_path_factory.mktemp("songs"), speakers=4)


def run(recipe: ModuleType, manifest: Path, base: Path, out: Path, options: str) -> list[dict[str, Any]]:
    """Run the recipe; gives the lines of its log."""
    paths = {
        "--data": f"{manifest}:en",
        "--dev": manifest,
        "--init": base,
        "--out": out,
        "--cache": out / "pcm",
    }
    recipe.main([*(str(word) for pair in paths.items() for word in pair), *COMMON.split(), *options.split()])
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_eight_clips_by_heart(plus: ModuleType, speech: Path, tmp_path: Path, tones_are_speech: None) -> None:
    """From a base model that knows the songs already."""
    manifest = write_timed_songs(tmp_path / "songs", speakers=0)
    length = "--steps 300 --warmup 10 --cooldown 200 --lr 2e-3 --batch-seconds 10 --row-frames 50 --joins 1"
    rows = run(plus, manifest, speech / "model", tmp_path, f"{length} --mix raw=0.3 times=0.7 speakers=0 keywords=0")
    losses = [row["reply"] for row in rows if "reply" in row]
    assert losses[-1] < 0.05 * losses[0]
    assert rows[-1]["wer_songs_en"] == rows[-1]["wer_times_songs_en"] == 0.0
    assert rows[-1]["aas_ms_songs_en"] <= 1000 * FRAME_S
    assert load_checkpoint(tmp_path / "model").config.encoder_config.cat_hidden_layers == (1,)
    model = lithophone.load(tmp_path / "model")
    for text in SENTENCES:
        heard = model.transcribe(sing(text), RATE_HZ, task="word-times", decode="greedy")
        assert heard.text == text
        wanted = [word.end_s for word in sung_words(text)]
        assert [word.end_s for word in heard.words] == pytest.approx(wanted, abs=FRAME_S + 0.005)


@pytest.mark.full
def test_conversations_are_learned_too(plus: ModuleType, manifest: Path, base: Checkpoint, tmp_path: Path) -> None:
    length = "--steps 30 --warmup 5 --cooldown 5 --lr 4e-3 --batch-seconds 9 --row-frames 150 --dev-clips 4"
    mix = "--mix raw=0.2 times=0.2 speakers=0.5 keywords=0.1 clustered=0.5"
    save_checkpoint(base, tmp_path / "base")
    rows = run(plus, manifest, tmp_path / "base", tmp_path, f"{length} {mix} --log-every 10")
    losses = [row["reply"] for row in rows if "reply" in row]
    assert losses[-1] < 0.6 * losses[0]
    similarities = [row["similarity"] for row in rows if "reply" in row]
    assert similarities[-1] < similarities[0]
    assert all(row["too_long"] == 0.0 for row in rows if "reply" in row)
    assert {"wer_songs_en", "wer_turns_songs_en", "wder_songs_en"} <= rows[-1].keys()
    stored = plus.read_words(tmp_path / "words.json")
    assert [word.text for word in stored["songs:en"]["manifest-0.wav"]] == ["a", "cab"]


def test_a_plus_model_starts_with_hearing_what_its_base_hears(plus: ModuleType) -> None:
    base = tiny_checkpoint(bpe=True)
    made = plus.plus_from(base)
    assert made.config.model_type == "granite_speech_plus"
    assert made.config.encoder_config.cat_hidden_layers == (1,)
    assert (
        made.config.projector_config.encoder_hidden_size == 2 * base.model.config.projector_config.encoder_hidden_size
    )
    assert "<|start_of_role|>" in made.tokenizer.chat_template
    assert "<|start_of_role|>" not in base.tokenizer.chat_template
    frames, lengths = tiny_frames(70, 33)
    with torch.no_grad():
        expected, counts = base.model.audio_embeddings(frames, lengths)
        found, same = made.model.audio_embeddings(frames, lengths)
    assert torch.equal(counts, same)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert plus.plus_from(made) is made
    with pytest.raises(OptionError, match="merge them"):
        plus.plus_from(tiny_checkpoint("lora"))


def batch() -> PlusBatch:
    frames, lengths = tiny_frames(60, 45)
    target = [
        TaskTarget(WordTimes(), word_time_reply(sung_words("big cage"))),
        TaskTarget(ClusteredSpeakerTurns(), "[Speaker 1 cluster 2]: a"),
    ]
    return PlusBatch(frames, lengths, target)


def test_losses_do_not_depend_on_company(plus: ModuleType, base: Checkpoint) -> None:
    """Bent histories too: two rows at once are those rows one by one."""
    task, both = plus.PlusTask(plus.plus_from(base), Perturbation(share=1.0)).eval(), batch()
    with torch.no_grad():
        whole = task.losses(both, 5)["reply"]
        singles = [
            task.losses(
                PlusBatch(both.frames[i : i + 1, : int(n)], both.lengths[i : i + 1], both.targets[i : i + 1]), 5
            )
            for i, n in enumerate(both.lengths)
        ]
    assert whole.count == sum(single["reply"].count for single in singles)
    assert float(whole.total) == pytest.approx(sum(float(single["reply"].total) for single in singles), rel=1e-5)


def test_a_bent_history_never_touches_the_targets(
    plus: ModuleType, base: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[torch.Tensor], list[Example]]] = []
    learned = plus.reply_loss

    def watched(model: Any, rows: list[torch.Tensor], pairs: list[Example]) -> Any:
        seen.append((rows, pairs))
        return learned(model, rows, pairs)

    monkeypatch.setattr(plus, "reply_loss", watched)
    made = plus.plus_from(base)
    for share in (0.0, 1.0):
        plus.PlusTask(made, Perturbation(share=share)).losses(batch(), 5)
    (plain, targets), (bent, same_targets) = seen
    assert targets == same_targets
    assert [parse_word_times(made.tokenizer.decode(targets[0].reply)).text] == ["big cage"]
    times = TimeTokens.of(made.tokenizer)
    for row, other, pair in zip(plain, bent, targets, strict=True):
        changed = (row != other).any(-1).nonzero().flatten().tolist()
        assert changed == [len(pair.prompt) + end - 1 for _, end in times.places(pair.reply)]
    assert torch.equal(plain[1], bent[1])


def test_only_the_encoder_is_held_still(plus: ModuleType, base: Checkpoint) -> None:
    task = plus.PlusTask(plus.plus_from(base), Perturbation()).train()
    assert not any(module.training for module in task.model.encoder.modules())
    sum(loss.total for loss in task.losses(batch(), 5).values()).backward()
    touched = {name.split(".")[0] for name, p in task.model.named_parameters() if p.grad is not None}
    assert touched == {"projector", "language_model"}
    early = task.model.projector.qformer.encoder.layer[0].crossattention.attention.key.weight.grad[:, :32]
    assert float(early.abs().max()) > 0.0


def test_rows_beyond_the_positions_are_left_out_and_told_of(plus: ModuleType, base: Checkpoint) -> None:
    both = batch()
    long = TaskTarget(Transcribe(punctuate=False), "a cab " * 200)
    task = plus.PlusTask(plus.plus_from(base), Perturbation())
    with torch.no_grad():
        mixed = task.losses(replace(both, targets=[both.targets[0], long]), 5)
        alone = task.losses(PlusBatch(both.frames[:1], both.lengths[:1], both.targets[:1]), 5)
    assert (float(mixed["too_long"].total), mixed["too_long"].count) == (1.0, 2.0)
    assert float(mixed["reply"].total) == pytest.approx(float(alone["reply"].total), rel=1e-5)


def singing_model(text: str) -> SimpleNamespace:
    """An encoder that spells every letter in the middle of its note, whatever it hears."""

    def encode(frames: torch.Tensor) -> SimpleNamespace:
        logits = torch.zeros(1, frames.shape[1], N_LABELS)
        logits[..., 0] = 5.0
        for i, label in enumerate(character_labels(text)):
            logits[0, round((EDGE_S + NOTE_S * (i + 0.5)) / FRAME_S) - 1, label] = 20.0
        return SimpleNamespace(logits=logits)

    return SimpleNamespace(encode=encode, projector=SimpleNamespace(linear=torch.nn.Linear(1, 1)))


def test_words_are_found_by_alignment_or_taken_as_known(plus: ModuleType, manifest: Path, tmp_path: Path) -> None:
    corpus = DecodedCorpus(read_entries(manifest)[5:6], tmp_path)
    (name,) = (clip.name for clip in corpus.clips)
    found = plus.find_words(singing_model("big cage"), corpus, {})[name]
    for word, sung in zip(found, sung_words("big cage"), strict=True):
        assert word.text == sung.text
        assert word.end_s == pytest.approx(sung.end_s, abs=0.041)
    known = (Word("big", 0.0, 1.0), Word("cage", 1.0, 2.0))
    assert plus.find_words(None, corpus, {name: known}) == {name: known}
    assert plus.find_words(None, corpus, {name: (Word("big", 0.0, 9.0),)}) == {name: ()}
    plus.write_words(tmp_path / "words.json", {"songs:en": {name: known}})
    assert plus.read_words(tmp_path / "words.json") == {"songs:en": {name: known}}


@pytest.mark.parametrize("start", [[], ["--init", "a", "--encoder", "b"], ["--tokenizer", "c"]], ids=" ".join)
def test_a_run_starts_from_a_model_or_from_all_parts(
    plus: ModuleType, start: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        plus.main(["--data", "d", "--dev", "e", "--out", "f", *start])
    assert "give either --init, or all of" in capsys.readouterr().err
