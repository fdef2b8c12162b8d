"""The recipe from two recordings to a folder that edits; what it trains on, what it drops, what it holds still."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

import lithophone
from lithophone.audio.features import RATE_HZ, batch_frames, log_mel_frames
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.errors import OptionError
from lithophone.model.speech import GraniteSpeech
from lithophone.train.base_model import starting_checkpoint
from lithophone.train.data.augment import seeded
from lithophone.train.data.batches import SpeechBatch
from lithophone.train.targets.editing import HypothesisNoise, editing_model_from
from lithophone.train.targets.prompt_reply import SourceText
from tests.conftest import ROOT
from tests.sounds import tone
from tests.tiny_checkpoint import tiny_checkpoint

TEXTS = ("Hello!", "The stone.")
"""Short enough for the slots that a random encoder opens."""


@pytest.fixture
def nar(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    return importlib.import_module("nar")


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A random model with a BPE head, and plain logits, so that it learns fast."""
    base = tiny_checkpoint(bpe=True)
    config = base.model.config
    config = replace(config, text_config=replace(config.text_config, logits_scaling=1.0))
    model = GraniteSpeech(config, bpe_labels=1 + len(base.tokenizer))
    model.load_state_dict(base.model.state_dict())
    save_checkpoint(replace(base, network=model, config=config), tmp_path / "base")
    return tmp_path / "base"


def melody(seed: int, seconds: float = 1.5) -> np.ndarray:
    """A new tone every 100 ms."""
    frequencies = seeded(seed).uniform(100.0, 4000.0, round(10 * seconds)).tolist()
    return np.concatenate([tone(0.1, frequency_hz=hz) for hz in frequencies])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two English recordings."""
    return write_manifest(tmp_path, [{"text": text} for text in TEXTS])


def write_manifest(folder: Path, rows: list[dict[str, object]], seconds: float = 1.5) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(len(rows)):
        soundfile.write(folder / f"{i}.wav", melody(i, seconds), RATE_HZ)
    lines = [json.dumps({"audio": f"{i}.wav", "text": "a word", "lang": "en"} | row) for i, row in enumerate(rows)]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


def batch() -> SpeechBatch:
    frames, lengths = batch_frames([log_mel_frames(torch.from_numpy(melody(i)).float()) for i in range(2)])
    return SpeechBatch(frames, lengths, [SourceText(text, "en") for text in TEXTS])


def test_two_recordings_become_a_folder_that_edits(
    nar: ModuleType, base_folder: Path, manifest: Path, tmp_path: Path, tones_are_speech: None
) -> None:
    out = tmp_path / "nar"
    options = "--steps 20 --lr 6e-3 --batch-seconds 4 --row-frames 75 --plain --corrupt 0 --workers 0 --log-every 5"
    folders = {"--init": base_folder, "--data": f"{manifest}:en", "--dev": manifest, "--cache": tmp_path / "cache"}
    named = [str(word) for pair in folders.items() for word in pair]
    nar.main([*named, "--out", str(out), "--device", "cpu", "--dev-clips", "2", *options.split()])
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    curve = [row["ctc"] for row in rows if "ctc" in row]
    assert len(curve) == 4
    assert curve[-1] < 0.5 * curve[0]
    assert not any(row["unreachable"] for row in rows if "ctc" in row)
    assert {"wer_ctc_en", "wer_en"} <= rows[-1].keys()
    (report,) = json.loads((out / "data.json").read_text())
    assert report["name"] == "manifest:en"
    assert (report["clips"], report["share"]) == (2, 1.0)

    checkpoint = load_checkpoint(out / "model")
    assert (checkpoint.config.model_type, checkpoint.editor.config.generation) == ("granite_speech_nar", "G3")
    untrained = editing_model_from(load_checkpoint(base_folder)).editor.state_dict()
    changed = {name for name, tensor in checkpoint.editor.state_dict().items() if not rounded(tensor, untrained[name])}
    assert {name.split(".")[0] for name in changed} == {"projector", "language_model"}
    transcript = lithophone.load(out / "model").transcribe(melody(0), RATE_HZ, decode="edit")
    assert transcript.duration_s == pytest.approx(1.5)
    assert transcript.text.strip()


def test_parts_make_the_model_that_their_base_makes(nar: ModuleType, tmp_path: Path) -> None:
    """Encoder and head of stage 1, language model of stage 2a: as those stages write them."""
    base = tiny_checkpoint("plus", bpe=True)
    encoder = replace(base.model.config.encoder_config, cat_hidden_layers=())
    write_part(tmp_path / "encoder", "encoder", encoder.to_dict(), base, ("encoder.", "bpe_head."))
    text = base.model.config.text_config.to_dict()
    write_part(tmp_path / "text", "language_model", text, base, ("language_model.",))
    base.tokenizer.save(tmp_path / "tokenizer")
    folders = {"--encoder": "encoder", "--language-model": "text", "--tokenizer": "tokenizer", "--out": "out"}
    named = [word for option, name in folders.items() for word in (option, str(tmp_path / name))]
    editor = editing_model_from(starting_checkpoint(nar.read_arguments([*named, "--data", "d", "--dev", "e"]))).editor
    expected = editing_model_from(base).editor
    assert editor.config == expected.config
    assert not editor.training
    for name, tensor in editor.state_dict().items():
        assert name.startswith("projector.") or torch.equal(tensor, expected.state_dict()[name]), name


def write_part(folder: Path, name: str, values: dict[str, object], base: Checkpoint, parts: tuple[str, ...]) -> None:
    """A stage's weights and configuration, as its recipe writes them."""
    folder.mkdir()
    (folder / f"{name}_config.json").write_text(json.dumps(values))
    tensors = {n: tensor for n, tensor in base.model.state_dict().items() if n.startswith(parts)}
    save_file(tensors, folder / f"{name}.safetensors")


def rounded(tensor: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether this is the tensor as bfloat16 holds it, up to the float32 average of equal ones."""
    return torch.allclose(tensor.float(), exact.float(), rtol=2**-7, atol=1e-6)


def test_losses_do_not_depend_on_company(nar: ModuleType) -> None:
    """Bent hypotheses too: two recordings at once are those recordings one by one."""
    task = nar.EditingTask(editing_model_from(tiny_checkpoint(bpe=True)), HypothesisNoise(row_p=1.0)).train()
    both = batch()
    with torch.no_grad():
        whole = task.losses(both, 5)
        single = [
            task.losses(SpeechBatch(both.frames[i : i + 1], both.lengths[i : i + 1], both.sources[i : i + 1]), 5)
            for i in range(2)
        ]
    for name, loss in whole.items():
        assert loss.count == sum(losses[name].count for losses in single)
        assert float(loss.total) == pytest.approx(sum(float(losses[name].total) for losses in single), rel=1e-5)


@pytest.mark.parametrize(
    ("frozen", "learns"),
    [
        ([], {"projector.query", "language_model.model.embed_tokens.weight", "language_model.model.norm.weight"}),
        (["embeddings"], {"projector.query", "language_model.model.norm.weight"}),
        (["language_model"], {"projector.query"}),
        (["projector", "embeddings"], {"language_model.model.norm.weight"}),
    ],
)
def test_parts_are_held_still(nar: ModuleType, frozen: list[str], learns: set[str]) -> None:
    task = nar.EditingTask(editing_model_from(tiny_checkpoint(bpe=True)), HypothesisNoise(), frozen)
    sum(loss.total for loss in task.losses(batch(), 0).values()).backward()
    touched = {name for name, parameter in task.model.named_parameters() if parameter.grad is not None}
    named = {"projector.query", "language_model.model.embed_tokens.weight", "language_model.model.norm.weight"}
    assert touched & named == learns
    assert not any(name.startswith("encoder.") for name in touched)


def test_the_encoder_stays_in_evaluation_mode(nar: ModuleType) -> None:
    task = nar.EditingTask(editing_model_from(tiny_checkpoint(bpe=True)), HypothesisNoise()).train()
    before = {name: tensor.clone() for name, tensor in task.model.encoder.state_dict().items()}
    task.losses(batch(), 0)
    assert task.model.projector.training
    assert not any(module.training for module in task.model.encoder.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.encoder.state_dict().items())


def test_something_has_to_learn(nar: ModuleType) -> None:
    with pytest.raises(OptionError, match="--freeze projector language_model freezes everything"):
        nar.EditingTask(
            editing_model_from(tiny_checkpoint(bpe=True)), HypothesisNoise(), ["projector", "language_model"]
        )


@pytest.mark.parametrize(
    "start", [[], ["--init", "a", "--encoder", "b"], ["--encoder", "b", "--tokenizer", "c"]], ids=" ".join
)
def test_a_run_starts_from_a_model_or_from_all_parts(
    nar: ModuleType, start: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        nar.main(["--data", "d", "--dev", "e", "--out", "f", *start])
    assert "give either --init, or all of" in capsys.readouterr().err
