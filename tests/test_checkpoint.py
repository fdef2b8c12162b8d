"""Checkpoint folders: read, written, handed to transformers, and refused with a reason."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.decode.edit import ctc_hypotheses, edit_batch
from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import BeamSearch, Edit, Greedy
from lithophone.errors import CheckpointError, ConfigError, OptionError
from lithophone.model.granite import GraniteForCausalLM
from lithophone.model.lora import merge_lora
from tests.tiny import GENERATIONS, KINDS, tiny_frames
from tests.tiny_checkpoint import checkpoint_config, reference_checkpoint, tiny_checkpoint, tiny_nar_checkpoint
from tests.tiny_tokenizer import save_tiny_tokenizer

FRAMES = 70
N_NEW = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tiny_checkpoint(), tmp_path)
    return tmp_path


def prompt(checkpoint: Checkpoint, n_audio: int) -> list[int]:
    text = "USER: " + "<|audio|>" * n_audio + "transcribe the speech\n ASSISTANT:"
    return checkpoint.tokenizer.encode(text)


def our_tokens(checkpoint: Checkpoint) -> list[int]:
    frames, lengths = tiny_frames(FRAMES)
    audio, counts = checkpoint.model.audio_embeddings(frames, lengths)
    n_audio = int(counts[0])
    embeddings = checkpoint.model.embed([prompt(checkpoint, n_audio)], audio, counts)[0]
    return list(greedy_decode(checkpoint.model, embeddings, Greedy(max_new_tokens=N_NEW), n_audio).ids)


def their_tokens(reference: Any, checkpoint: Checkpoint) -> list[int]:
    frames, _ = tiny_frames(FRAMES)
    ids = torch.tensor([prompt(checkpoint, 15)])
    eos = checkpoint.config.text_config.eos_token_id
    out = reference.generate(
        input_ids=ids, input_features=frames, attention_mask=torch.ones_like(ids), max_new_tokens=N_NEW,
        do_sample=False, eos_token_id=eos, pad_token_id=checkpoint.config.text_config.pad_token_id,
    )  # fmt: skip
    new: list[int] = out[0, ids.shape[1] :].tolist()
    return new[: new.index(eos)] if eos in new else new


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    checkpoint = tiny_checkpoint(kind, bpe=True)
    save_checkpoint(checkpoint, tmp_path)
    again = load_checkpoint(tmp_path)
    assert (again.config, again.folder) == (checkpoint.config, tmp_path)
    assert again.tokenizer.chat_template == checkpoint.tokenizer.chat_template
    assert not again.model.training
    assert again.model.bpe_head is not None
    with torch.no_grad():
        assert our_tokens(again) == our_tokens(checkpoint)


@pytest.mark.parametrize("kind", ["base", "plus", "wide"])
def test_transformers_reads_what_we_write(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = tiny_checkpoint(kind)
    save_checkpoint(checkpoint, tmp_path)
    name = "GraniteSpeechPlus" if kind == "plus" else "GraniteSpeech"
    cls = getattr(transformers, f"{name}ForConditionalGeneration")
    reference, info = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert {key: list(value) for key, value in info.items() if value} == {}
    with torch.no_grad():
        tokens = our_tokens(checkpoint)
        assert len(set(tokens)) > 2
        assert their_tokens(reference, checkpoint) == tokens


def test_peft_reads_our_adapters_into_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = tiny_checkpoint("lora")
    save_checkpoint(checkpoint, tmp_path)
    cls = transformers.GraniteSpeechForConditionalGeneration
    reference, info = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert {key: list(value) for key, value in info.items() if value} == {}
    frames, lengths = tiny_frames(FRAMES)
    ids = prompt(checkpoint, 15)
    scaling = checkpoint.config.text_config.logits_scaling
    with torch.no_grad():
        wanted = reference(input_ids=torch.tensor([ids]), input_features=frames).logits / scaling
        torch.testing.assert_close(checkpoint.model([ids], frames, lengths)[0], wanted, rtol=1e-5, atol=1e-5)
        merge_lora(checkpoint.model)
        torch.testing.assert_close(checkpoint.model([ids], frames, lengths)[0], wanted, rtol=1e-5, atol=1e-5)
        reference.disable_adapters()
        without = reference(input_ids=torch.tensor([ids]), input_features=frames).logits / scaling
    assert (without - wanted).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["base", "plus", "wide"])
@pytest.mark.parametrize("published_names", [True, False])
def test_we_read_what_transformers_writes(tmp_path: Path, kind: str, published_names: bool) -> None:
    reference = reference_checkpoint(kind)
    reference.save_pretrained(tmp_path, save_original_format=published_names, max_shard_size="200KB")
    save_tiny_tokenizer(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    with torch.no_grad():
        assert our_tokens(checkpoint) == their_tokens(reference, checkpoint)


YARN_KINDS = ["base-yarn", "plus-yarn", "base-small", "plus-small"]


def rename(folder: Path, theirs: str, ours: str) -> None:
    """Give tensors whose names begin with `theirs` another beginning."""
    for file in folder.glob("model*.safetensors"):
        tensors = {ours + k.removeprefix(theirs) if k.startswith(theirs) else k: t for k, t in load_file(file).items()}
        save_file(tensors, file, {"format": "pt"})


def long_prompts(checkpoint: Checkpoint) -> list[list[int]]:
    """With 15 audio slots, of fewer positions than the rotary tables were made for, and of more."""
    yarn = checkpoint.config.text_config.yarn
    assert yarn is not None
    original = yarn.original_max_position_embeddings
    text = torch.randint(255, (original + 200,), generator=torch.Generator().manual_seed(8)).tolist()
    audio = [checkpoint.tokenizer.audio_id] * 15
    return [text[:40] + audio + text[40 : original - 90], [*text, *audio]]


@pytest.mark.parametrize(
    ("kind", "nested"),
    [
        ("base-yarn", False),
        ("plus-yarn", True),
        pytest.param("base-small", True, marks=pytest.mark.full),
        pytest.param("base-small", False, marks=pytest.mark.full),
        pytest.param("plus-small", False, marks=pytest.mark.full),
    ],
)
def test_yarn_is_that_of_transformers_below_and_above_the_original_positions(
    tmp_path: Path, kind: str, nested: bool
) -> None:
    reference = reference_checkpoint(kind)
    config = checkpoint_config(kind)
    never = [config.text_config.eos_token_id, config.audio_token_index]  # transformers embeds the latter as id 0
    reference.lm_head.weight.data[never] = 0.0
    reference.save_pretrained(tmp_path, max_shard_size="200KB" if nested else "1GB")
    if nested:
        rename(tmp_path, "language_model.model.", "language_model.model.model.")
        rewrite(tmp_path / "model.safetensors.index.json", nest_names)
    save_tiny_tokenizer(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    frames, lengths = tiny_frames(FRAMES)
    audio, counts = checkpoint.model.audio_embeddings(frames, lengths)
    scaling = checkpoint.config.text_config.logits_scaling
    with torch.no_grad():
        for ids in long_prompts(checkpoint):
            wanted = reference(input_ids=torch.tensor([ids]), input_features=frames).logits / scaling
            logits, _ = checkpoint.model([ids], frames, lengths)
            assert float((logits - wanted).abs().max()) < 1e-4
            reply = reference.generate(
                input_ids=torch.tensor([ids]), input_features=frames, attention_mask=torch.ones(1, len(ids)),
                max_new_tokens=64, do_sample=False,
            )[0, len(ids) :].tolist()  # fmt: skip
            ours = cached_greedy(checkpoint.model.language_model, checkpoint.model.embed([ids], audio, counts)[0], 64)
            assert (ours, len(reply)) == (reply, 64)


def cached_greedy(language_model: GraniteForCausalLM, prompt: torch.Tensor, n: int) -> list[int]:
    """n tokens, whatever they are; `greedy_decode` reads all positions again for every one of them."""
    cache = language_model.new_cache(1, len(prompt) + n)
    step, tokens = prompt[None], []
    for _ in range(n):
        tokens.append(int(language_model.logits(language_model(step, cache)[:, -1]).argmax()))
        step = language_model.embed(torch.tensor([tokens[-1:]]))
    return tokens


def nest_names(index: dict[str, Any]) -> None:
    flat = "language_model.model."
    index["weight_map"] = {k.replace(flat, f"{flat}model.", 1): v for k, v in index["weight_map"].items()}


@pytest.mark.parametrize("kind", YARN_KINDS)
def test_transformers_reads_yarn_as_we_write_it(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = tiny_checkpoint(kind)
    save_checkpoint(checkpoint, tmp_path)
    assert load_checkpoint(tmp_path).config == checkpoint.config
    name = "GraniteSpeechPlus" if kind.startswith("plus") else "GraniteSpeech"
    cls = getattr(transformers, f"{name}ForConditionalGeneration")
    reference, info = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert {key: list(value) for key, value in info.items() if value} == {}
    frames, lengths = tiny_frames(FRAMES)
    ids = long_prompts(checkpoint)[0]
    with torch.no_grad():
        wanted = reference(input_ids=torch.tensor([ids]), input_features=frames).logits
        ours = checkpoint.model([ids], frames, lengths)[0] * checkpoint.config.text_config.logits_scaling
    assert float((ours - wanted).abs().max()) < 1e-3


def test_the_number_type_is_the_one_asked_for(folder: Path) -> None:
    model = load_checkpoint(folder, dtype=torch.bfloat16).model
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    frames, lengths = tiny_frames(FRAMES)
    with torch.no_grad():
        assert model.audio_embeddings(frames.bfloat16(), lengths)[0].isfinite().all()


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        load_checkpoint(folder)


def test_missing_weights_and_folders_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors"):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match="is no folder"):
        load_checkpoint(folder / "nowhere")


def test_an_unknown_key_is_refused(folder: Path) -> None:
    rewrite(folder / "config.json", lambda values: values["encoder_config"].update(streaming=True))
    with pytest.raises(ConfigError, match="streaming=True"):
        load_checkpoint(folder)


def test_a_configuration_of_another_size_is_refused_tensor_by_tensor(folder: Path) -> None:
    rewrite(folder / "config.json", lambda values: values["encoder_config"].update(output_dim=41))
    with pytest.raises(CheckpointError, match=r"encoder\.out\.bias is \[40\], expected \[41\]"):
        load_checkpoint(folder)


def test_tokenizer_and_model_have_to_agree(folder: Path) -> None:
    rewrite(folder / "config.json", lambda values: values.update(audio_token_index=5))
    with pytest.raises(CheckpointError, match=r"<\|audio\|> is 304 in the tokenizer, 5 in config"):
        load_checkpoint(folder)
    rewrite(folder / "config.json", lambda values: values.update(audio_token_index=304))
    rewrite(folder / "tokenizer_config.json", lambda values: values.update(eos_token="<|pad|>"))
    with pytest.raises(CheckpointError, match="end of text is 300 in the tokenizer, 301"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"sampling_rate": 8000}, "sampling_rate=8000"),
        ({"melspec_kwargs": {"n_fft": 400, "n_mels": 128}}, r"n_fft=400 \(built: 512\), n_mels=128"),
        ({"projector_window_size": 12}, r"projector_window_size=12 \(built: 15\)"),
    ],
)
@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_another_front_end_is_refused(folder: Path, name: str, change: dict[str, Any], seen: str) -> None:
    values = change if name.startswith("pre") else {"audio_processor": change}
    (folder / name).write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"{name}.*{seen}"):
        load_checkpoint(folder)


def test_no_preprocessor_file_is_no_error(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    assert load_checkpoint(folder).config.window_size == 15


BEAMS = BeamSearch(num_beams=3, length_penalty=0.5, ctc_weight=0.25, keyword_boost=0.5, future_cost=0.75)


def test_beams_there_and_back_and_in_transformers(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    save_checkpoint(dataclasses.replace(tiny_checkpoint(), beams=BEAMS), tmp_path)
    assert load_checkpoint(tmp_path).beams == BEAMS
    theirs = GenerationConfig.from_pretrained(tmp_path)
    assert (theirs.num_beams, theirs.length_penalty) == (BEAMS.num_beams, BEAMS.length_penalty)


def test_transformers_ends_replies_where_we_do(tmp_path: Path) -> None:
    """Without `eos_token_id` in `generation_config.json` it goes on to the limit of tokens."""
    transformers = pytest.importorskip("transformers")
    checkpoint = tiny_checkpoint()
    eos = checkpoint.config.text_config.eos_token_id
    head = checkpoint.model.language_model.lm_head
    assert head is not None
    head.weight.data[eos] *= 8.0
    save_checkpoint(checkpoint, tmp_path)
    reference = transformers.GraniteSpeechForConditionalGeneration.from_pretrained(tmp_path)
    ended = 0
    with torch.no_grad():
        for seed in range(6):
            frames, lengths = tiny_frames(FRAMES, seed=seed)
            ids = torch.tensor([prompt(checkpoint, 15)])
            out = reference.generate(
                input_ids=ids, input_features=frames, attention_mask=torch.ones_like(ids), num_beams=1,
                max_new_tokens=40,
            )  # fmt: skip
            theirs = out[0, ids.shape[1] :].tolist()
            audio, counts = checkpoint.model.audio_embeddings(frames, lengths)
            embeddings = checkpoint.model.embed(ids, audio, counts)[0]
            ours = greedy_decode(checkpoint.model, embeddings, Greedy(max_new_tokens=40), 15).ids
            ended += theirs[-1] == eos
            assert theirs == [*ours, *([eos] if theirs[-1] == eos else [])]
    assert ended


def test_a_folder_says_which_tokens_begin_end_and_fill(folder: Path) -> None:
    values = json.loads((folder / "generation_config.json").read_text())
    text = load_checkpoint(folder).config.text_config
    assert values == {name: getattr(text, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


@pytest.mark.parametrize(
    "values",
    [{"num_beams": 10**9}, {"num_beams": "8"}, {"num_beams": 2.5}, {"num_beams": 0}, {"num_beams": True},
     {"num_beams": 4, "length_penalty": float("nan")}, {"foreign_penalty": float("inf")}, {"language_ids": 1},
     {"raw_languages": "ja"}, {"raw_languages": ["xx"]}, {"raw_languages": [["ja"]]}, {"min_confidence": 1.5},
     {"min_confidence": "low"}, {"min_confidence": -0.1}],
)  # fmt: skip
def test_generation_settings_have_limits(folder: Path, values: dict[str, Any]) -> None:
    (folder / "generation_config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"generation_config.json: {next(reversed(values))} is"):
        load_checkpoint(folder)


SIZES = [
    ("encoder_config", "num_layers", 400, r"num_layers is 400, and the weights have 4 \(encoder\.layers"),
    (
        "text_config",
        "num_hidden_layers",
        10**9,
        r"num_hidden_layers is 1000000000: it must lie in 1\.\.512",
    ),
    ("text_config", "num_hidden_layers", 300, r"num_hidden_layers is 300, and the weights have 3"),
    ("projector_config", "num_hidden_layers", 1, r"num_hidden_layers is 1, and the weights have 2"),
    ("encoder_config", "dim_head", 0, r"encoder_config.dim_head is 0: it must lie in 1\.\."),
    ("encoder_config", "num_heads", -2, r"encoder_config.num_heads is -2"),
    ("encoder_config", "conv_kernel_size", 0, r"encoder_config.conv_kernel_size is 0"),
    ("encoder_config", "cat_hidden_layers", 3, r"encoder_config.cat_hidden_layers is 3: expected a list of numbers"),
    ("encoder_config", "dropout", 2.0, r"encoder_config.dropout is 2.0: it must lie in 0\.\.1"),
    (
        "projector_config",
        "num_attention_heads",
        5,
        r"32: it must be a multiple of num_attention_heads=5",
    ),
    ("text_config", "num_key_value_heads", 0, r"text_config.num_key_value_heads is 0"),
    ("text_config", "num_attention_heads", 3, r"text_config.hidden_size 64 cannot be split into 3 heads"),
    ("text_config", "rope_parameters", "default", r"text_config.rope_parameters is 'default': expected an object"),
    ("text_config", "rope_parameters", {"rope_type": "yarn", "factor": 4.0}, "lacks original_max_position_embeddings"),
    ("text_config", "rope_parameters", {"rope_type": ["yarn"]}, r"built are rope_type 'default'"),
    ("text_config", "embedding_multiplier", float("nan"), r"text_config.embedding_multiplier is nan"),
    ("text_config", "vocab_size", 10**9, r"text_config.vocab_size is 1000000000"),
    ("text_config", "vocab_size", 100, r"every id but that of <\|audio\|> needs an embedding"),
    ("text_config", "hidden_size", 128, "the weights do not fit the configuration"),
    (None, "model_type", ["granite_speech"], r"model_type is \['granite_speech'\]: allowed are"),
    (None, "downsample_rate", 0, r"downsample_rate is 0: it must lie in 1\.\.1000"),
    (None, "text_config", [], r"text_config is \[\]: expected an object"),
    (None, "window_size", 10**6, r"window_size"),
]


@pytest.mark.parametrize(("section", "key", "value", "seen"), SIZES)
def test_odd_sizes_are_refused_by_name(folder: Path, section: str | None, key: str, value: object, seen: str) -> None:
    rewrite(folder / "config.json", lambda values: (values[section] if section else values).update({key: value}))
    with pytest.raises((ConfigError, CheckpointError), match=seen) as caught:
        load_checkpoint(folder)
    assert not isinstance(caught.value, ConfigError) or "config.json: " in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 200 + "1" + "}" * 200, '{"a": ' + "9" * 5000 + "}"])
def test_json_that_is_too_deep_or_too_long_is_an_error_of_the_file(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"])
def test_text_that_is_no_utf_8_is_an_error_of_the_file(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff\xfe" + (folder / name).read_bytes())
    with pytest.raises(CheckpointError, match=rf"{name} is not UTF-8"):
        load_checkpoint(folder)


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.int8, torch.uint8, torch.complex64])
def test_weights_of_other_number_types_are_refused(folder: Path, kind: torch.dtype) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"projector.query": tensors["projector.query"].to(kind)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"projector\.query is stored as .*; allowed are F64, F32, F16, BF16"):
        load_checkpoint(folder)


@pytest.mark.parametrize("place", [7, None, [], "a" * 400, "../elsewhere/model.safetensors", "/x.safetensors", "a.bin"])
def test_an_index_names_files_of_its_own_folder(folder: Path, place: object) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / "model.safetensors").rename(elsewhere / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"encoder.out.bias": place}}))
    with pytest.raises(CheckpointError, match=r"expected names of \.safetensors files in the same folder"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"eos_token": 7}, "eos_token is 7: expected the text of a token"),
        ({"eos_token": ["x"]}, "eos_token is "),
        ({"bos_token": {"content": None}, "eos_token": None}, "names no 'eos_token'"),
        ({"chat_template": 7}, "chat_template is a int: expected text"),
        ({"chat_template": [{"name": "default"}, {"name": "default", "template": 3}]}, "chat_template is a int"),
    ],
)
def test_odd_settings_of_a_tokenizer_are_refused(folder: Path, change: dict[str, Any], seen: str) -> None:
    (folder / "chat_template.jinja").unlink()
    rewrite(folder / "tokenizer_config.json", lambda values: values.update(change))
    with pytest.raises(CheckpointError, match=seen):
        load_checkpoint(folder)


@pytest.mark.parametrize("values", [None, {}, {"num_beams": 1, "length_penalty": 1.0}, {"eos_token_id": 2}])
def test_without_beams_in_the_folder_there_are_none(folder: Path, values: dict[str, Any] | None) -> None:
    if values is not None:
        (folder / "generation_config.json").write_text(json.dumps(values))
    assert load_checkpoint(folder).beams is None


def test_a_penalty_there_and_back(tmp_path: Path) -> None:
    assert load_checkpoint_of(tmp_path, 0.0).foreign_penalty == 0.0
    assert load_checkpoint_of(tmp_path, 12.5).foreign_penalty == 12.5
    assert load_checkpoint(tmp_path).beams is None


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_a_folder_that_is_saved_again_still_ends_replies(tmp_path: Path, kind: str) -> None:
    save_checkpoint(tiny_checkpoint(kind), tmp_path / "once")
    save_checkpoint(load_checkpoint(tmp_path / "once"), tmp_path / "twice")
    values = json.loads((tmp_path / "twice" / "generation_config.json").read_text())
    assert values["eos_token_id"] == tiny_checkpoint(kind).config.text_config.eos_token_id


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_of_a_saved_folder_have_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save_checkpoint(tiny_checkpoint(bpe=True), tmp_path)
    finally:
        os.umask(before)
    assert {path.name for path in tmp_path.iterdir()} >= {"model.safetensors", "out_llm.safetensors", "config.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


@pytest.mark.parametrize("place", ["file/below", "x" * 300, "/proc/checkpoint"])
def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot be written: .+; choose another folder"):
        save_checkpoint(tiny_checkpoint(), tmp_path / place)


def test_raw_languages_there_and_back(tmp_path: Path) -> None:
    save_checkpoint(dataclasses.replace(tiny_checkpoint(), raw_languages=("ja", "de")), tmp_path)
    assert load_checkpoint(tmp_path).raw_languages == ("ja", "de")


def test_min_confidence_there_and_back(tmp_path: Path) -> None:
    save_checkpoint(dataclasses.replace(tiny_checkpoint(), min_confidence=0.75), tmp_path)
    assert load_checkpoint(tmp_path).min_confidence == 0.75


def test_language_ids_there_and_back(tmp_path: Path) -> None:
    save_checkpoint(dataclasses.replace(tiny_checkpoint(), language_ids=True), tmp_path)
    assert load_checkpoint(tmp_path).language_ids
    (tmp_path / "generation_config.json").write_text(json.dumps({"language_ids": "en"}))
    with pytest.raises(ConfigError, match=r"generation_config.json: language_ids is 'en': it must be true or false"):
        load_checkpoint(tmp_path)


def load_checkpoint_of(folder: Path, penalty: float) -> Checkpoint:
    save_checkpoint(dataclasses.replace(tiny_checkpoint(), foreign_penalty=penalty), folder)
    return load_checkpoint(folder)


def test_a_penalty_that_cannot_be_is_refused(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"foreign_penalty": "much"}))
    with pytest.raises(
        ConfigError, match=r"generation_config.json: foreign_penalty is 'much': it must be from 0 to 100 nats"
    ):
        load_checkpoint(folder)


def test_beams_that_cannot_be_are_refused(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"num_beams": 4, "ctc_weight": 1.5}))
    with pytest.raises(ConfigError, match=r"generation_config.json: ctc_weight is 1.5: it must be from 0 to below 1"):
        load_checkpoint(folder)


def test_adapters_and_configuration_have_to_agree(folder: Path, tmp_path: Path) -> None:
    rewrite(folder / "config.json", lambda values: values.update(has_lora_adapter=True))
    with pytest.raises(CheckpointError, match=r"has_lora_adapter is True.*adapter_model\.safetensors is missing"):
        load_checkpoint(folder)
    save_checkpoint(tiny_checkpoint("lora"), tmp_path / "lora")
    rewrite(tmp_path / "lora" / "config.json", lambda values: values.update(has_lora_adapter=False))
    with pytest.raises(CheckpointError, match="is there"):
        load_checkpoint(tmp_path / "lora")


NAMES = {
    "G1": {
        "encoder.out_bpe.weight", "llm.model.layers.0.mlp.up_proj.weight", "projector.query",
        "projector.layer_norms.2.bias", "projector.qformer.layers.1.cross_attention.q_proj.bias",
    },
    "G2": {
        "encoder.out_bpe.weight", "language_model.model.layers.0.mlp.up_proj.weight", "projector.window_positions",
        "projector.out_norm.weight", "projector.qformer.layers.1.cross_attention.o_proj.bias",
    },
    "G3": {
        "model.out_bpe.weight", "model.encoder.layers.0.attn.to_q.weight", "model.language_model.embed_tokens.weight",
        "model.projector.proj.bias", "model.projector.qformer.queries", "model.projector.qformer.pos_emb",
        "model.projector.qformer.linear.weight", "model.projector.qformer.layers.1.cross_attn.o_proj.bias",
        "model.projector.qformer.layers.0.mlp.fc1.weight",
    },
}  # fmt: skip
"""What the files of a nar model name so, and no other generation does."""


@pytest.fixture(scope="module", params=GENERATIONS)
def nar(request: pytest.FixtureRequest) -> Checkpoint:
    checkpoint = tiny_nar_checkpoint(request.param)
    checkpoint.editor.requires_grad_(False)
    return checkpoint


@pytest.fixture
def nar_folder(nar: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(nar, tmp_path)
    return tmp_path


def edited(checkpoint: Checkpoint) -> list[tuple[int, ...]]:
    model = checkpoint.editor
    encoded = model.encode(*tiny_frames(FRAMES, 30))
    hypotheses = [checkpoint.reread(ids) for ids in ctc_hypotheses(model, encoded)]
    return [reply.ids for reply in edit_batch(model, *model.project(encoded), hypotheses, Edit())]


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_nar_model_there_and_back(nar: Checkpoint, nar_folder: Path) -> None:
    again = load_checkpoint(nar_folder)
    assert (again.config, again.folder) == (nar.config, nar_folder)
    assert not again.editor.training
    before, after = nar.editor.state_dict(), again.editor.state_dict()
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert edited(again) == edited(nar)


def test_the_tensors_of_a_nar_file_have_the_names_of_its_generation(nar: Checkpoint, nar_folder: Path) -> None:
    stored = set(load_file(nar_folder / "model.safetensors"))
    assert NAMES[nar.config.generation] <= stored
    norms = [name for name in stored if "norm" in name and "projector" in name]
    assert (norms == []) == (nar.config.generation == "G3")
    assert not any("lm_head" in name for name in stored), "the head is tied to the embeddings"


def test_wrong_tensors_of_a_nar_file_are_named(nar_folder: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        bias = next(name for name in tensors if name.endswith("out_bpe.bias"))
        tensors[bias] = torch.zeros(7)
        del tensors[next(name for name in tensors if name.endswith("layers.0.mlp.fc1.weight"))]
        tensors["projector.extra"] = torch.zeros(2)

    edit(nar_folder, spoil)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(nar_folder)
    assert "missing (1): projector.qformer.layers.0.mlp.fc1.weight [" in str(caught.value)
    assert "unexpected (1): projector.extra [2]" in str(caught.value)
    assert "wrong shape (1): encoder.out_bpe.bias is [7], expected [" in str(caught.value)


def test_what_a_nar_model_cannot_do_is_said_with_what_it_can(nar: Checkpoint) -> None:
    kind = "nle" if nar.config.generation == "G1" else "granite_speech_nar"
    with pytest.raises(
        OptionError, match=f"a {kind} model takes no prompt: .* it transcribes, with the decoder 'edit'"
    ):
        _ = nar.model
    with pytest.raises(OptionError, match="a granite_speech model does not edit: it answers a prompt"):
        _ = tiny_checkpoint().editor


def test_only_the_first_generation_reads_its_hypothesis_as_text(nar: Checkpoint) -> None:
    ids = nar.tokenizer.encode("  Hello WORLD ")
    text = nar.tokenizer.decode(nar.reread(ids))
    assert text == ("hello world" if nar.config.generation == "G1" else "  Hello WORLD ")
    assert nar.reread([]) == (nar.tokenizer.encode(" ") if nar.config.generation == "G1" else [])


def test_the_front_end_and_the_end_of_text_of_a_nar_model_are_checked(nar: Checkpoint, nar_folder: Path) -> None:
    bands = "feature_size" if nar.config.generation == "G3" else "n_mels"
    rewrite(nar_folder / "preprocessor_config.json", lambda values: values.update({bands: 128}))
    with pytest.raises(ConfigError, match=rf"{bands}=128 \(built: 80\)"):
        load_checkpoint(nar_folder)
    (nar_folder / "preprocessor_config.json").unlink()
    rewrite(nar_folder / "tokenizer_config.json", lambda values: values.update(eos_token="<|pad|>"))
    with pytest.raises(CheckpointError, match="end of text is 300 in the tokenizer, 301"):
        load_checkpoint(nar_folder)
