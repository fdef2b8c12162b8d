"""Learning to edit: losses against plain loops, a start that hears what its base heard, and eight clips by heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lithophone.audio.features import batch_frames, log_mel_frames
from lithophone.checkpoint import Checkpoint
from lithophone.ctc.forced_alignment import best_path
from lithophone.decode.edit import ctc_hypotheses, edit_batch, edit_slots
from lithophone.decode.options import Edit
from lithophone.errors import CheckpointError, OptionError
from lithophone.metrics.wer import score
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.speech import GraniteSpeech
from lithophone.train.data.augment import seeded
from lithophone.train.data.text_noise import Corruption
from lithophone.train.run.optim import Cosine, MasterAdamW
from lithophone.train.targets.editing import (
    WEIGHTS,
    HypothesisNoise,
    corrupt_hypothesis,
    ctc_drafts,
    editing_losses,
    editing_model_from,
    frames_that_fit,
)
from lithophone.train.targets.losses import Loss
from tests.plain_nar import plain_audio, plain_encoding, plain_logits
from tests.sounds import tone
from tests.tiny import EOS, GENERATIONS, randomise, tiny_frames, tiny_nar_model
from tests.tiny_checkpoint import tiny_checkpoint, tiny_nar_checkpoint
from tests.tiny_tokenizer import tiny_tokenizer

HYPOTHESES = [[5, 6, 7, 7, 8], [], [9], [10, 11, 12]]
REFERENCES = [[5, 6, 8, 8, 20, 21], [30, 31], [9, 9], [12]]
LENGTHS = (90, 16, 47, 60)
TEXTS = (
    "hello world", "the stone sings", "singer turns to stone", "write the speech", "granite and lithophone",
    "can you turn", "translate to french", "proper world",
)  # fmt: skip


@pytest.fixture(scope="module", params=GENERATIONS)
def model(request: pytest.FixtureRequest) -> GraniteSpeechNar:
    return tiny_nar_model(request.param)


def losses_of(model: GraniteSpeechNar, rows: list[int]) -> dict[str, Loss]:
    """The losses of some of the four recordings."""
    frames, lengths = (t[rows] for t in tiny_frames(*LENGTHS))
    with torch.no_grad():
        encoded = model.encode(frames, lengths)
    picked = [HYPOTHESES[i] for i in rows], [REFERENCES[i] for i in rows]
    return editing_losses(model, *model.project(encoded), *picked)


def mean_loss(losses: dict[str, Loss], counts: dict[str, float]) -> Tensor:
    return torch.stack([WEIGHTS[name] * loss.total / counts[name] for name, loss in losses.items()]).sum()


def test_losses_are_those_of_a_plain_loop(model: GraniteSpeechNar) -> None:
    """One recording at a time, slot after slot; CTC is that of torch over a single row."""
    said = copied = 0.0
    frames, lengths = tiny_frames(*LENGTHS)
    for i, n in enumerate(lengths.tolist()):
        slots = edit_slots(HYPOTHESES[i], EOS)
        audio = plain_audio(model, plain_encoding(model, frames[i, :n])[0])
        log_probs = plain_logits(model, audio, slots).log_softmax(-1).detach()
        copied -= sum(float(row[held]) for row, held in zip(log_probs, slots, strict=True))
        target = torch.tensor(REFERENCES[i])
        said += float(torch.nn.functional.ctc_loss(log_probs, target, (len(slots),), (len(target),), EOS, "sum"))
    losses = losses_of(model, [0, 1, 2, 3])
    assert losses["copy"].total.item() == pytest.approx(copied, rel=1e-5)
    assert losses["copy"].count == 11 + 8 + 8 + 8
    assert losses["ctc"].total.item() == pytest.approx(said, rel=1e-5)
    assert losses["ctc"].count == 6 + 2 + 2 + 1
    assert losses["unreachable"].mean == 0.0


def test_the_copy_term_is_nothing_where_slots_say_what_they_hold(model: GraniteSpeechNar) -> None:
    """Without attention and feed-forward, and with loud embeddings, every slot repeats itself."""
    model = tiny_nar_model(model.config.generation).requires_grad_(False)
    for layer in model.language_model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    model.language_model.model.embed_tokens.weight.mul_(1000.0)
    losses = losses_of(model, [0, 1, 2, 3])
    assert losses["copy"].mean == pytest.approx(0.0, abs=1e-3)
    assert losses["ctc"].mean > 1.0


def test_a_reference_that_the_slots_cannot_hold_is_counted(model: GraniteSpeechNar) -> None:
    audio, counts = model.project(model.encode(*tiny_frames(60, 60)))
    losses = editing_losses(model, audio, counts, [[5], [5]], [[1, 2, 3, 4, 5, 6, 7, 8, 9], [7]])
    assert losses["ctc"].count == 1
    assert losses["unreachable"].mean == pytest.approx(9 / 10)
    assert torch.isfinite(losses["ctc"].total)


def test_accumulated_batches_equal_the_whole_one(model: GraniteSpeechNar) -> None:
    """A batch of 4 and two of 2: losses and gradients, each divided by the counts of the whole."""
    model.zero_grad()
    whole = losses_of(model, [0, 1, 2, 3])
    counts = {name: max(loss.count, 1.0) for name, loss in whole.items()}
    expected = mean_loss(whole, counts)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    parts = [mean_loss(losses_of(model, rows), counts) for rows in ([0, 1], [2, 3])]
    for part in parts:
        part.backward()
    assert sum(part.item() for part in parts) == pytest.approx(expected.item(), rel=1e-5)
    assert len(gradients) > 20
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        if name in gradients:
            assert parameter.grad is not None
            assert (parameter.grad - gradients[name]).abs().max() <= 1e-5 * largest, name


def test_the_longest_recording_fits_with_a_token_in_every_window(model: GraniteSpeechNar) -> None:
    limit, frames = model.config.text_config.max_position_embeddings, frames_that_fit(model.config)

    def positions(n: int) -> int:
        return n // 5 + len(edit_slots([5] * -(-n // 4), EOS))

    assert max(positions(n) for n in range(frames + 1)) <= limit
    assert positions(frames + 8) > limit
    audio, counts = torch.zeros(1, frames // 5, 64), torch.tensor([frames // 5])
    model(audio, counts, [edit_slots([5] * -(-frames // 4), EOS)])


def talkative(frames: Tensor, lengths: Tensor) -> Checkpoint:
    """A model that is asked: a fresh encoder, and a lively language model with plain logits, so that it learns fast.

    Its BPE head hears something else in every window, and sometimes nothing: a random one repeats itself.
    """
    torch.manual_seed(0)
    checkpoint = tiny_checkpoint()
    config = checkpoint.model.config
    config = replace(config, text_config=replace(config.text_config, logits_scaling=1.0))
    model = GraniteSpeech(config, bpe_labels=1 + len(checkpoint.tokenizer)).eval()
    randomise(model.language_model)
    head = model.bpe_head
    assert head is not None
    with torch.no_grad():
        pooled, _ = head.pool(model.encode(frames, lengths))
        head.bias.copy_(-head.weight @ pooled.flatten(0, 1).mean(0))
        head.bias[0] += 1.5 * head(pooled).std()
        head.bias[1 + checkpoint.tokenizer.eos_id] = -1e4
    return replace(checkpoint, network=model, config=config)


def tones() -> tuple[Tensor, Tensor]:
    """Eight recordings of 1.5 s, a new tone every 100 ms."""
    melodies = seeded(1).uniform(100.0, 4000.0, (8, 15)).tolist()
    heard = [np.concatenate([tone(0.1, frequency_hz=hz) for hz in melody]) for melody in melodies]
    return batch_frames([log_mel_frames(torch.from_numpy(samples)) for samples in heard])


def words(editor: Checkpoint, rows: list[list[int]]) -> list[tuple[str, str]]:
    return [(text, editor.tokenizer.decode(ids)) for text, ids in zip(TEXTS, rows, strict=True)]


def test_eight_clips_are_learned_by_heart() -> None:
    frames, lengths = tones()
    editor = editing_model_from(talkative(frames, lengths))
    model = editor.editor
    model.encoder.requires_grad_(False)
    references = [editor.tokenizer.encode(text) for text in TEXTS]
    encoded, hypotheses = ctc_drafts(model, frames, lengths)
    assert score(words(editor, hypotheses), "en").rate >= 1.0, "nothing was right before"
    optimizer, schedule = MasterAdamW(model.parameters(), weight_decay=0.0), Cosine(6e-3, 80, 4)
    curve = []
    for step in range(schedule.steps):
        losses = editing_losses(model, *model.project(encoded), hypotheses, references)
        assert losses["unreachable"].mean == 0.0
        mean_loss(losses, {name: loss.count for name, loss in losses.items()}).backward()
        optimizer.step(schedule.at(step), max_norm=2.0)
        curve.append(losses["ctc"].mean)
    assert curve[-1] < 0.05 < 1.0 < curve[0]
    with torch.no_grad():
        replies = edit_batch(model, *model.project(encoded), hypotheses, Edit())
    assert score(words(editor, [list(reply.ids) for reply in replies]), "en").errors == 0


def test_an_editor_hears_what_its_base_heard() -> None:
    frames, lengths = tones()
    base = talkative(frames, lengths)
    editor = editing_model_from(base)
    assert base.model.bpe_head is not None
    with torch.no_grad():
        logits, counts = base.model.bpe_head.logits(base.model.encode(frames, lengths))
        encoded, hypotheses = ctc_drafts(editor.editor, frames, lengths)
    spelt = [[label - 1 for label, _ in best_path(row[:n])] for row, n in zip(logits, counts.tolist(), strict=True)]
    assert hypotheses == spelt
    assert len({token for row in spelt for token in row}) > 10, "a silent model proves nothing"
    assert ctc_hypotheses(editor.editor, encoded) == spelt


def test_an_editor_keeps_the_language_model_and_speaks_as_loudly() -> None:
    base = tiny_checkpoint(bpe=True)
    editor = editing_model_from(base).editor
    for name, tensor in base.model.language_model.state_dict().items():
        assert torch.equal(editor.language_model.state_dict()[name], tensor), name
    with torch.no_grad():
        audio, counts = editor.project(editor.encode(*tiny_frames(600)))
        loudness = audio[0, : int(counts)].std() / editor.config.text_config.embedding_multiplier
        expected = base.model.language_model.model.embed_tokens.weight.std()
    assert float(loudness / expected) == pytest.approx(1.0, abs=0.2)
    assert editor.config.generation == "G3"
    assert editor.config.encoder_config.cat_hidden_layers == (1, 2, 3)


def test_a_head_without_the_audio_token_cuts_the_language_model() -> None:
    """As in granite-speech-4.1-2b: its language model has one token more, the audio one, than its BPE head."""
    base = tiny_checkpoint()
    tokens = len(base.tokenizer) - 1
    shorter = GraniteSpeech(base.model.config, bpe_labels=1 + tokens)
    editor = editing_model_from(replace(base, network=shorter)).editor
    assert editor.config.text_config.vocab_size == editor.config.encoder_config.bpe_output_dim == tokens
    assert editor.language_model.lm_head is not None
    assert len(editor.language_model.lm_head.weight) == len(editor.language_model.model.embed_tokens.weight) == tokens


def test_who_edits_already_goes_on() -> None:
    checkpoint = tiny_nar_checkpoint("G2")
    assert editing_model_from(checkpoint) is checkpoint


def test_what_cannot_become_an_editor_is_refused() -> None:
    with pytest.raises(OptionError, match="has no BPE head"):
        editing_model_from(tiny_checkpoint())
    with pytest.raises(OptionError, match="merge them into the weights"):
        editing_model_from(tiny_checkpoint("lora", bpe=True))
    base = tiny_checkpoint()
    foreign = GraniteSpeech(base.model.config, bpe_labels=len(base.tokenizer) + 5)
    with pytest.raises(CheckpointError, match=r"labels for 309 tokens, the language model has 305"):
        editing_model_from(replace(base, network=foreign))


def test_corruption_bends_some_rows_and_leaves_the_others() -> None:
    tokenizer = tiny_tokenizer()
    spelt = tokenizer.encode("hello world the stone sings and the singer turns to stone")
    rows = [corrupt_hypothesis(spelt, HypothesisNoise(), tokenizer, seeded(i)) for i in range(200)]
    kept = sum(row == spelt for row in rows)
    assert 120 < kept < 180
    assert rows[7] == corrupt_hypothesis(spelt, HypothesisNoise(), tokenizer, seeded(7))
    assert len({tuple(row) for row in rows}) > 15
    assert corrupt_hypothesis(spelt, HypothesisNoise(row_p=0.0), tokenizer, seeded(1)) == spelt
    assert corrupt_hypothesis([], HypothesisNoise(row_p=1.0), tokenizer, seeded(1)) == []


def test_tokens_are_lost_and_said_twice_as_often_as_asked() -> None:
    tokenizer, spelt = tiny_tokenizer(), list(range(60, 80)) * 100
    plain = Corruption(word_p=0.0, drop_word_p=0.0)
    written = tokenizer.encode(tokenizer.decode(spelt))

    def length(delete_p: float, repeat_p: float) -> float:
        return len(
            corrupt_hypothesis(spelt, HypothesisNoise(1.0, plain, delete_p, repeat_p), tokenizer, seeded(3))
        ) / len(written)

    assert length(0.0, 0.0) == 1.0
    assert length(0.2, 0.0) == pytest.approx(0.8, abs=0.04)
    assert length(0.0, 0.2) == pytest.approx(1.2, abs=0.04)
    assert length(1.0, 0.5) == 0.0


@pytest.mark.parametrize("name", ["row_p", "delete_p", "repeat_p"])
def test_shares_lie_between_nothing_and_all(name: str) -> None:
    with pytest.raises(OptionError, match=rf"{name} is 1.5: it must be a share, 0 to 1"):
        HypothesisNoise(**{name: 1.5})
