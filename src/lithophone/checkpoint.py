"""A checkpoint folder <-> a model ready to run, its tokenizer and its configuration.

Loading is where everything about a folder is checked: what is missing, what does not fit together and what we would
compute differently from how the model was trained raises here, before the first recording is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lithophone.audio import features
from lithophone.decode.options import BeamSearch, check_number
from lithophone.errors import CheckpointError, ConfigError, OptionError
from lithophone.files import write_json
from lithophone.model.checkpoint_files import read_json
from lithophone.model.config import ModelConfig
from lithophone.model.lora import LoraConfig
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import Generation, NarConfig, config_from_dict
from lithophone.model.quantize import QUANTIZATION, has_int8, is_quantized, products_are_exact
from lithophone.model.speech import GraniteSpeech
from lithophone.model.tensor_names import NATIVE, NLE, PUBLISHED, Names
from lithophone.model.weights import (
    ADAPTER,
    ADAPTER_CONFIG,
    BPE_HEAD,
    load_weights,
    save_weights,
    stored_tensors,
    weight_files,
)
from lithophone.text.tokenizer import AUDIO_TOKEN, Tokenizer

CONFIG = "config.json"
QUANTIZED = "quantization_config"
GENERATION = "generation_config.json"
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

MANY_WEIGHTS = 100_000_000
"""From so many on a model is loaded in int8 where nothing else is asked for: smaller ones are as fast in float32."""

BEAM_SETTINGS = ("num_beams", "length_penalty", "ctc_weight", "keyword_boost", "future_cost")
PENALTY = "foreign_penalty"
LANGUAGE_IDS = "language_ids"
"""What is heeded of a generation configuration; transformers knows the first two of the beams."""

FRONT_END = {
    "sample_rate": features.RATE_HZ, "n_fft": features.N_FFT, "win_length": features.WIN_LENGTH,
    "hop_length": features.HOP_LENGTH, "n_mels": features.N_MELS,
}  # fmt: skip
"""What `audio/features.py` computes, in the words of a preprocessor's `melspec_kwargs`."""


NAR_NAMES: dict[Generation, Names] = {"G1": NLE, "G2": PUBLISHED, "G3": NATIVE}
"""How the files of a nar model name its tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that belongs to it; `folder` is where it was read from.

    There are two kinds of `network`: `model` and `editor` give it as the kind it is. `beams` is how a transcript is
    decoded where nobody asks for another way, by the folder's `generation_config.json`; None leaves it greedy. So is
    `foreign_penalty`: nats off letters that the language given is not spelled with. `language_ids`: the encoder has
    learned what the language ids of `languages.py` mean.
    """

    network: GraniteSpeech | GraniteSpeechNar
    tokenizer: Tokenizer
    config: ModelConfig | NarConfig
    folder: Path
    beams: BeamSearch | None = None
    foreign_penalty: float = 0.0
    language_ids: bool = False

    @property
    def model(self) -> GraniteSpeech:
        """The model that is asked by a prompt; OptionError where this one cannot be asked."""
        if isinstance(self.network, GraniteSpeechNar):
            raise OptionError(
                f"a {self.config.model_type} model takes no prompt: it does not translate, punctuate, name speakers or "
                "heed keywords, nor does it decode token by token; it transcribes, with the decoder 'edit'"
            )
        return self.network

    @property
    def editor(self) -> GraniteSpeechNar:
        """The model that edits what its encoder has heard; OptionError where this one does not."""
        if isinstance(self.network, GraniteSpeech):
            raise OptionError(
                f"a {self.config.model_type} model does not edit: it answers a prompt, with the decoder 'greedy' and "
                "others; 'edit' needs a granite_speech_nar model"
            )
        return self.network

    def reread(self, hypothesis: Sequence[int]) -> list[int]:
        """Token ids that a nar model's encoder spells -> those that its language model is to edit.

        G1 reads the hypothesis as text, without spaces around it and in lower case, and a space where there is none.
        """
        if not isinstance(self.config, NarConfig) or self.config.generation != "G1":
            return list(hypothesis)
        return self.tokenizer.encode(self.tokenizer.decode(hypothesis).strip().lower() or " ")


def load_checkpoint(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Checkpoint:
    """Read a checkpoint folder; the model comes in eval mode, its tensors in `dtype` on `device`.

    Raises CheckpointError for missing or misfitting files and tensors, ConfigError for a configuration that is not
    understood.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    config = read_config(folder)
    holds_int8(folder)
    check_front_end(folder, config)
    tokenizer = Tokenizer.from_folder(folder)
    _check_tokenizer(tokenizer, config)
    beams, foreign_penalty, language_ids = read_beams(folder), read_penalty(folder), read_language_ids(folder)
    files = weight_files(folder)
    with torch.device("meta"):
        network = _network(folder, config)
    load_weights(network, files, dtype=dtype, device=device)
    network.eval()
    return Checkpoint(network, tokenizer, config, folder, beams, foreign_penalty, language_ids)


def save_checkpoint(checkpoint: Checkpoint, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a folder that `load_checkpoint` and `transformers` read; `dtype` None keeps the number types.

    A nar model is written as its own generation does.
    """
    folder, config = Path(folder), checkpoint.config
    names = NAR_NAMES[config.generation] if isinstance(config, NarConfig) else PUBLISHED
    save_weights(checkpoint.network, folder, dtype=dtype, names=names)
    write_json(folder / CONFIG, config.to_dict() | ({QUANTIZED: QUANTIZATION} if has_int8(checkpoint.network) else {}))
    write_json(folder / PREPROCESSOR_FILES[0], _preprocessor(config))
    generation = {name: getattr(checkpoint.beams, name) for name in BEAM_SETTINGS if checkpoint.beams}
    generation |= {PENALTY: checkpoint.foreign_penalty} if checkpoint.foreign_penalty else {}
    generation |= {LANGUAGE_IDS: True} if checkpoint.language_ids else {}
    if generation:
        write_json(folder / GENERATION, generation)
    checkpoint.tokenizer.save(folder)


def read_config(folder: Path) -> ModelConfig | NarConfig:
    """The model's configuration; raises CheckpointError without `config.json`, ConfigError for what it says."""
    return config_from_dict({key: value for key, value in read_json(folder / CONFIG).items() if key != QUANTIZED})


def read_beams(folder: Path) -> BeamSearch | None:
    """The beam search that `generation_config.json` asks for, by `num_beams` and the other BEAM_SETTINGS.

    None where there is no such file, or one beam; ConfigError for values that are not allowed.
    """
    path, values = _generation(folder)
    asked = {name: values[name] for name in BEAM_SETTINGS if values.get(name) is not None}
    if asked.get("num_beams", 1) == 1:
        return None
    try:
        return BeamSearch(**asked)
    except OptionError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def read_penalty(folder: Path) -> float:
    """The `foreign_penalty` of `generation_config.json`, 0 where there is none; ConfigError where it is not allowed."""
    path, values = _generation(folder)
    nats = values.get(PENALTY) or 0.0
    try:
        check_number(PENALTY, nats, lambda value: 0 <= value < math.inf, "0 nats or more")
    except OptionError as error:
        raise ConfigError(f"{path.name}: {error}") from error
    return float(nats)


def read_language_ids(folder: Path) -> bool:
    """The `language_ids` of `generation_config.json`, false where there is none; ConfigError for anything else."""
    path, values = _generation(folder)
    given = values.get(LANGUAGE_IDS) or False
    if given is not True and given is not False:
        raise ConfigError(f"{path.name}: {LANGUAGE_IDS} is {given!r}: it must be true or false")
    return given


def _generation(folder: Path) -> tuple[Path, dict[str, Any]]:
    path = folder / GENERATION
    return path, read_json(path) if path.is_file() else {}


def holds_int8(folder: Path) -> bool:
    """Whether a folder's weights are int8, by its `config.json`; ConfigError where they are of another small kind."""
    return is_quantized(read_json(folder / CONFIG))


def suits_int8(folder: Path) -> bool:
    """Whether a CPU does best by a folder's weights in int8: they are int8, or many, and products are exact here."""
    if holds_int8(folder):
        return True
    sizes = (math.prod(stored.shape) for stored in stored_tensors(weight_files(folder)).values())
    return products_are_exact() and sum(sizes) >= MANY_WEIGHTS


def check_front_end(folder: Path, config: ModelConfig | NarConfig) -> None:
    """ConfigError where a preprocessor's file asks for other frames, or other windows, than are built."""
    ours = _preprocessor(config)
    expected = FRONT_END | {key: value for key, value in ours.items() if isinstance(value, int)}
    for path in (folder / name for name in PREPROCESSOR_FILES):
        seen = _flat(read_json(path)) if path.is_file() else {}
        wrong = [f"{k}={seen[k]!r} (built: {v})" for k, v in expected.items() if seen.get(k, v) != v]
        if wrong:
            raise ConfigError(f"{path.name} asks for a front end that is not built: {', '.join(wrong)}")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a preprocessor's file, whichever section of which generation they stand in."""
    sections = [_flat(value) for value in values.values() if isinstance(value, Mapping)]
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    return {key: value for section in [*sections, plain] for key, value in section.items()}


def _preprocessor(config: ModelConfig | NarConfig) -> dict[str, Any]:
    if isinstance(config, NarConfig):
        return _nar_preprocessor(config)
    return {
        "feature_extractor_type": "GraniteSpeechFeatureExtractor",
        "processor_class": "GraniteSpeechProcessor",
        "sampling_rate": features.RATE_HZ,
        "melspec_kwargs": FRONT_END,
        "projector_window_size": config.window_size,
        "projector_downsample_rate": config.downsample_rate,
    }


def _nar_preprocessor(config: NarConfig) -> dict[str, Any]:
    """All settings at the top level; G3 gives the mel bands another name."""
    kind = "NLE" if config.generation == "G1" else "GraniteSpeechNar"
    bands = "feature_size" if config.generation == "G3" else "n_mels"
    return {
        "feature_extractor_type": f"{kind}FeatureExtractor",
        "sampling_rate": features.RATE_HZ,
        "n_fft": features.N_FFT,
        "win_length": features.WIN_LENGTH,
        "hop_length": features.HOP_LENGTH,
        bands: features.N_MELS,
    }


def _check_tokenizer(tokenizer: Tokenizer, config: ModelConfig | NarConfig) -> None:
    if isinstance(config, ModelConfig) and tokenizer.audio_id != config.audio_token_index:
        seen = f"{tokenizer.audio_id} in the tokenizer, {config.audio_token_index} in {CONFIG}"
        raise CheckpointError(f"{AUDIO_TOKEN} is {seen}")
    eos = config.text_config.eos_token_id
    if tokenizer.eos_id != eos:
        raise CheckpointError(f"the end of text is {tokenizer.eos_id} in the tokenizer, {eos} in {CONFIG}")


def _network(folder: Path, config: ModelConfig | NarConfig) -> GraniteSpeech | GraniteSpeechNar:
    if isinstance(config, NarConfig):
        return GraniteSpeechNar(config)
    return GraniteSpeech(config, _bpe_labels(folder), _lora(folder, config))


def _bpe_labels(folder: Path) -> int | None:
    """Labels of the BPE head, where the checkpoint has one."""
    path = folder / BPE_HEAD
    if not path.is_file():
        return None
    bias = stored_tensors([path]).get("bpe_head.bias")
    if bias is None:
        raise CheckpointError(f"{path} holds no tensor 'bias'")
    return bias.shape[0]


def _lora(folder: Path, config: ModelConfig) -> LoraConfig | None:
    """The adapters' configuration, by `has_lora_adapter`; the files have to agree with it."""
    present = (folder / ADAPTER).is_file()
    if present != config.has_lora_adapter:
        state = "is there" if present else "is missing"
        raise CheckpointError(f"has_lora_adapter is {config.has_lora_adapter} in {CONFIG}, but {ADAPTER} {state}")
    return LoraConfig.from_dict(read_json(folder / ADAPTER_CONFIG)) if present else None
