"""What Whisper's decoder expects behind each prefix, for a language model that splits texts elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from lithophone.text.tokenizer import Tokenizer
from lithophone.train.transplant import reading
from lithophone.train.transplant.reading import Reading, ReadingTeacher
from lithophone.train.transplant.statistics import Statistics
from lithophone.train.transplant.weights import SPARE
from lithophone.train.transplant.whisper import WhisperEncoder
from lithophone.train.transplant.whisper_decoder import IGNORED, DecoderInput, TextTeacher
from tests.train.transplant.tiny_whisper import SIZE

TEXT = "the stone"
MERGES = [("t", "h"), ("th", "e"), ("s", "t")]


def tokenizer(merges: list[tuple[str, str]]) -> Tokenizer:
    """Bytes in another order than Whisper's, these merges, and the end of a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=True)
    pieces = [*alphabet, *(a + b for a, b in merges)]
    core = Core(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|end_of_text|>"])
    return Tokenizer(core, {"eos_token": "<|end_of_text|>"}, None)


@pytest.fixture
def to_decoder(teacher: WhisperEncoder, statistics: Statistics) -> DecoderInput:
    return DecoderInput(teacher, statistics)


def read(teacher: ReadingTeacher, text: str = TEXT) -> tuple[Reading, Tensor]:
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(1, 10, SIZE + SPARE, generator=generator)
    (found,) = teacher.read(states, torch.ones(1, 10, dtype=torch.bool), [text], ["en"])
    assert found is not None
    return found, states


def reply_of(tokens: Tokenizer, text: str = TEXT) -> list[int]:
    return [*tokens.encode(f" {text}"), tokens.eos_id]


def test_the_same_splits_are_taught_everywhere(
    text_teacher: TextTeacher, to_decoder: DecoderInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The targets are Whisper's probabilities, by our ids."""
    monkeypatch.setattr(reading, "TOP", 1000)
    tokens = tokenizer([])
    teacher = ReadingTeacher(text_teacher, to_decoder, tokens)
    found, states = read(teacher)
    reply = reply_of(tokens)
    soft = teacher.taught(found, TEXT, reply)
    assert soft is not None
    assert soft.index.tolist() == list(range(len(reply)))
    ids, targets = text_teacher.rows([TEXT], ["en"])
    hidden = text_teacher.decoder(ids, to_decoder(states), torch.ones(1, 10, dtype=torch.bool))
    logits = text_teacher.decoder.logits(hidden[targets != IGNORED])
    ours = torch.full((len(logits), len(tokens)), -1e9)
    for theirs, number in enumerate(teacher.ours.tolist()):
        if number >= 0:
            ours[:, number] = logits[:, theirs]
    assert soft.divergence(ours).mean == pytest.approx(0.0, abs=1e-5)
    assert soft.divergence(ours.roll(1, 0)).mean > 0.01
    assert soft.divergence(ours).count == len(reply)


def test_other_splits_are_taught_behind_the_same_prefixes(text_teacher: TextTeacher, to_decoder: DecoderInput) -> None:
    tokens = tokenizer(MERGES)
    teacher = ReadingTeacher(text_teacher, to_decoder, tokens)
    found, _ = read(teacher)
    reply = reply_of(tokens)
    assert [tokens.decode([token]) for token in reply[:-1]] == [" ", "the", " ", "st", "o", "n", "e"]
    soft = teacher.taught(found, TEXT, reply)
    assert soft is not None
    assert soft.index.tolist() == list(range(len(reply)))
    whole, _ = read(ReadingTeacher(text_teacher, to_decoder, tokenizer([])))
    by_prefix = dict(zip(whole.targets.index.tolist(), whole.targets.probabilities, strict=True))
    for place, prefix in enumerate([0, 1, 4, 5, 7, 8, 9, 10]):
        torch.testing.assert_close(soft.probabilities[place], by_prefix[prefix])
    torch.testing.assert_close(soft.probabilities.sum(-1), torch.ones(len(reply)))


def test_another_text_is_not_taught(text_teacher: TextTeacher, to_decoder: DecoderInput) -> None:
    tokens = tokenizer([])
    teacher = ReadingTeacher(text_teacher, to_decoder, tokens)
    found, _ = read(teacher)
    assert teacher.taught(found, "the stones", reply_of(tokens, "the stones")) is None
    assert teacher.taught(None, TEXT, reply_of(tokens)) is None


def test_capitals_are_read_in_lower_case(text_teacher: TextTeacher, to_decoder: DecoderInput) -> None:
    tokens = tokenizer([])
    teacher = ReadingTeacher(text_teacher, to_decoder, tokens)
    found, _ = read(teacher, TEXT.upper())
    assert found.text == TEXT
    assert teacher.taught(found, TEXT, reply_of(tokens)) is not None


def test_prefixes_whose_tokens_we_lack_are_not_taught(text_teacher: TextTeacher, to_decoder: DecoderInput) -> None:
    teacher = ReadingTeacher(text_teacher, to_decoder, tokenizer([]))
    teacher.ours[:] = -1
    states, valid = torch.zeros(1, 4, SIZE + SPARE), torch.ones(1, 4, dtype=torch.bool)
    assert teacher.read(states, valid, [TEXT], ["en"]) == [None]
    assert teacher.read(states, valid, [""], ["en"]) == [None]


def test_padding_of_targets_adds_nothing(text_teacher: TextTeacher, to_decoder: DecoderInput) -> None:
    """Tokens without a place among ours have no probability."""
    teacher = ReadingTeacher(text_teacher, to_decoder, tokenizer([]))
    found, _ = read(teacher)
    uniform = torch.zeros(20, len(teacher.lengths))
    soft = teacher.taught(found, TEXT, reply_of(tokenizer([])))
    assert soft is not None
    entropy = -torch.special.xlogy(soft.probabilities, soft.probabilities).sum(-1).mean()
    expected = -float(entropy) - float(F.log_softmax(uniform, -1)[0, 0])
    assert soft.divergence(uniform).mean == pytest.approx(expected, rel=1e-4)
