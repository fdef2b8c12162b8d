"""Checkpoint folder <-> model, tokenizer and configuration.

Folders are untrusted: missing or inconsistent files raise before the model is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lithophone.audio import features
from lithophone.decode.options import MAX_BEAMS, BeamSearch, check_nats, check_number, check_whole
from lithophone.errors import CheckpointError, ConfigError, OptionError
from lithophone.files import write_json
from lithophone.languages import LANGUAGES
from lithophone.model.checkpoint_files import is_file, read_json
from lithophone.model.config import ModelConfig
from lithophone.model.lora import LoraConfig, is_adapter
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import Generation, NarConfig, config_from_dict
from lithophone.model.quantize import QUANTIZATION, has_int8, is_quantized, products_are_exact, weight_count
from lithophone.model.speech import GraniteSpeech
from lithophone.model.stored_tensors import ADAPTER, ADAPTER_CONFIG, BPE_HEAD, Stored, stored_tensors, weight_files
from lithophone.model.strict_config import shown
from lithophone.model.tensor_names import NATIVE, NLE, PUBLISHED, Names
from lithophone.model.weights import layer_counts, load_weights, save_weights, without_values
from lithophone.text.tokenizer import AUDIO_TOKEN, Tokenizer

CONFIG = "config.json"
QUANTIZED = "quantization_config"
GENERATION = "generation_config.json"
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

MANY_WEIGHTS = 100_000_000
"""Weights from which int8 is the default, and more than one thread; smaller models are as fast without."""

BEAM_SETTINGS = ("num_beams", "length_penalty", "ctc_weight", "keyword_boost", "future_cost")
"""Options of beam search; `transformers` knows the first two."""
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""For `transformers`, to end a reply."""

FRONT_END = {
    "sample_rate": features.RATE_HZ, "n_fft": features.N_FFT, "win_length": features.WIN_LENGTH,
    "hop_length": features.HOP_LENGTH, "n_mels": features.N_MELS,
}  # fmt: skip
"""`audio/features.py` in terms of a preprocessor's `melspec_kwargs`."""


NAR_NAMES: dict[Generation, Names] = {"G1": NLE, "G2": PUBLISHED, "G3": NATIVE}
"""Tensor names in nar checkpoints."""


@dataclass(frozen=True)
class GenerationSettings:
    """Decoding settings of `generation_config.json`; fields of `Checkpoint`."""

    beams: BeamSearch | None = None
    foreign_penalty: float = 0.0
    language_ids: bool = False
    raw_languages: tuple[str, ...] = ()
    min_confidence: float = 0.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GenerationSettings:
        """Ignores unknown keys. Raises OptionError for invalid values."""
        asked = {name: values[name] for name in BEAM_SETTINGS if values.get(name) is not None}
        beams, nats = asked.setdefault("num_beams", 1), values.get("foreign_penalty") or 0.0
        check_whole("num_beams", beams, most=MAX_BEAMS)
        check_nats("foreign_penalty", nats)
        ids = values.get("language_ids") or False
        if not isinstance(ids, bool):
            raise OptionError(f"language_ids is {ids!r}: it must be true or false")
        raw = values.get("raw_languages") or []
        if not (isinstance(raw, list) and all(isinstance(code, str) and code in LANGUAGES for code in raw)):
            raise OptionError(f"raw_languages is {raw!r}: it must be a list of languages: {', '.join(LANGUAGES)}")
        confidence = values.get("min_confidence") or 0.0
        check_number("min_confidence", confidence, lambda value: 0 <= value <= 1, "from 0 to 1")
        return cls(BeamSearch(**asked) if beams > 1 else None, float(nats), ids, tuple(raw), float(confidence))

    def to_dict(self) -> dict[str, Any]:
        """Without default values."""
        values = {name: getattr(self.beams, name) for name in BEAM_SETTINGS if self.beams}
        values |= {"foreign_penalty": self.foreign_penalty} if self.foreign_penalty else {}
        values |= {"language_ids": True} if self.language_ids else {}
        values |= {"raw_languages": list(self.raw_languages)} if self.raw_languages else {}
        return values | ({"min_confidence": self.min_confidence} if self.min_confidence else {})


@dataclass(frozen=True)
class Checkpoint:
    """A model, its tokenizer and settings, read from `folder`.

    `network` is `model` or `editor`. From `generation_config.json`: `beams`, the default decoder of transcripts (None:
    greedy); `foreign_penalty`, nats subtracted from characters outside the language's alphabet; `language_ids`, whether
    the encoder was trained with the ids of `languages.py`; `raw_languages`, codes transcribed raw by default;
    `min_confidence`, mean posterior of the best path below which a window has a warning.
    """

    network: GraniteSpeech | GraniteSpeechNar
    tokenizer: Tokenizer
    config: ModelConfig | NarConfig
    folder: Path
    beams: BeamSearch | None = None
    foreign_penalty: float = 0.0
    language_ids: bool = False
    raw_languages: tuple[str, ...] = ()
    min_confidence: float = 0.0

    @property
    def model(self) -> GraniteSpeech:
        """The autoregressive model. Raises OptionError for nar."""
        if isinstance(self.network, GraniteSpeechNar):
            raise OptionError(
                f"a {self.config.model_type} model takes no prompt: it does not translate, punctuate, name speakers or "
                "heed keywords, nor does it decode token by token; it transcribes, with the decoder 'edit'"
            )
        return self.network

    @property
    def editor(self) -> GraniteSpeechNar:
        """The editing model. Raises OptionError unless nar."""
        if isinstance(self.network, GraniteSpeech):
            raise OptionError(
                f"a {self.config.model_type} model does not edit: it answers a prompt, with the decoder 'greedy' and "
                "others; 'edit' needs a granite_speech_nar model"
            )
        return self.network

    def reread(self, hypothesis: Sequence[int]) -> list[int]:
        """Token ids of a nar CTC hypothesis -> ids that the language model edits.

        G1 retokenises the stripped, lower-case text, or a space for an empty one.
        """
        if not isinstance(self.config, NarConfig) or self.config.generation != "G1":
            return list(hypothesis)
        return self.tokenizer.encode(self.tokenizer.decode(hypothesis).strip().lower() or " ")


def load_checkpoint(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Checkpoint:
    """Read a folder into a model in eval mode.

    Raises CheckpointError for missing or wrong files and tensors, ConfigError for unsupported configurations.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    config = read_config(folder)
    holds_int8(folder)
    check_front_end(folder, config)
    tokenizer = Tokenizer.from_folder(folder)
    _check_tokenizer(tokenizer, config)
    generation = read_generation(folder)
    files = weight_files(folder)
    stored = stored_tensors(files)
    _check_layers(config, stored)
    with without_values():
        network = _network(folder, config, stored)
    load_weights(network, files, dtype=dtype, device=device)
    network.eval()
    return Checkpoint(network, tokenizer, config, folder, **vars(generation))


def save_checkpoint(
    checkpoint: Checkpoint,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    four_bits: Callable[[str], bool] = lambda name: False,
) -> None:
    """Write a folder for `load_checkpoint` and `transformers`; nar: of its generation. `dtype` None keeps dtypes.

    int8 weights for whose names `four_bits` is true are written with 4 bits. Raises CheckpointError where the folder
    cannot be written.
    """
    try:
        _save(checkpoint, Path(folder), dtype, four_bits)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{folder} cannot be written: {reason}; choose another folder") from error


def _save(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype | None, four_bits: Callable[[str], bool]) -> None:
    config = checkpoint.config
    names = NAR_NAMES[config.generation] if isinstance(config, NarConfig) else PUBLISHED
    save_weights(checkpoint.network, folder, dtype=dtype, names=names, four_bits=four_bits)
    write_json(folder / CONFIG, config.to_dict() | ({QUANTIZED: QUANTIZATION} if has_int8(checkpoint.network) else {}))
    write_json(folder / PREPROCESSOR_FILES[0], _preprocessor(config))
    settings = GenerationSettings(**{name: getattr(checkpoint, name) for name in vars(GenerationSettings())})
    ids = {name: getattr(config.text_config, name) for name in SPECIAL_IDS}
    write_json(
        folder / GENERATION, {key: value for key, value in ids.items() if value is not None} | settings.to_dict()
    )
    checkpoint.tokenizer.save(folder)


def read_config(folder: Path) -> ModelConfig | NarConfig:
    """Raises CheckpointError without `config.json`, ConfigError for its content."""
    values = read_json(folder / CONFIG)
    try:
        return config_from_dict({key: value for key, value in values.items() if key != QUANTIZED})
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error}") from error


def read_generation(folder: Path) -> GenerationSettings:
    """Settings of `generation_config.json`, or defaults. Raises ConfigError for invalid values."""
    path = folder / GENERATION
    try:
        return GenerationSettings.from_dict(read_json(path) if is_file(path) else {})
    except OptionError as error:
        raise ConfigError(f"{path}: {error}") from error


def holds_int8(folder: Path) -> bool:
    """Whether `config.json` declares int8 weights. Raises ConfigError for other quantisation."""
    try:
        return is_quantized(read_json(folder / CONFIG))
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error}") from error


def suits_int8(folder: Path) -> bool:
    """Whether int8 is fastest here: weights are int8 or many, and the CPU's int8 products are exact.

    Other CPUs read int8 weights as floats.
    """
    if not products_are_exact():
        return False
    if holds_int8(folder):
        return True
    return sum(math.prod(stored.shape) for stored in stored_tensors(weight_files(folder)).values()) >= MANY_WEIGHTS


def is_small(network: torch.nn.Module) -> bool:
    """Whether a second thread gains nothing."""
    return weight_count(network) < MANY_WEIGHTS


def check_front_end(folder: Path, config: ModelConfig | NarConfig) -> None:
    """Raises ConfigError for preprocessor files with features or windows that are not implemented."""
    ours = _preprocessor(config)
    expected = FRONT_END | {key: value for key, value in ours.items() if isinstance(value, int)}
    for path in (folder / name for name in PREPROCESSOR_FILES):
        seen = _flat(read_json(path)) if is_file(path) else {}
        wrong = [f"{k}={shown(seen[k])} (built: {v})" for k, v in expected.items() if seen.get(k, v) != v]
        if wrong:
            raise ConfigError(f"{path.name} asks for a front end that is not built: {', '.join(wrong)}")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a preprocessor file, from all sections."""
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
    """Flat; G3 names mel bands differently."""
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
    audio = config.audio_token_index if isinstance(config, ModelConfig) else None
    if audio is not None and tokenizer.audio_id != audio:
        seen = f"{tokenizer.audio_id} in the tokenizer, {audio} in {CONFIG}"
        raise CheckpointError(f"{AUDIO_TOKEN} is {seen}")
    eos, size = config.text_config.eos_token_id, config.text_config.vocab_size
    if tokenizer.eos_id != eos:
        raise CheckpointError(f"the end of text is {tokenizer.eos_id} in the tokenizer, {eos} in {CONFIG}")
    if eos >= size or tokenizer.last_id >= size + (AUDIO_TOKEN in tokenizer.special_tokens):
        seen = f"ids up to {tokenizer.last_id}, {CONFIG} a vocab_size of {size}"
        raise CheckpointError(f"the tokenizer has {seen}: every id but that of {AUDIO_TOKEN} needs an embedding")


def _check_layers(config: ModelConfig | NarConfig, stored: Mapping[str, Stored]) -> None:
    """Raises CheckpointError where layer numbers differ from the weights, before the model is built."""
    found = layer_counts(stored)
    for section, key, path in _layer_lists(config):
        wanted = getattr(getattr(config, section), key)
        if found.get(path, 0) != wanted:
            raise CheckpointError(
                f"{CONFIG}: {section}.{key} is {wanted}, and the weights have {found.get(path, 0)} ({path}.*)"
            )


def _layer_lists(config: ModelConfig | NarConfig) -> list[tuple[str, str, str]]:
    """Section, key, tensor prefix per layer number."""
    lists = [
        ("encoder_config", "num_layers", "encoder.layers"),
        ("text_config", "num_hidden_layers", "language_model.model.layers"),
    ]
    if isinstance(config, ModelConfig):
        return [*lists, ("projector_config", "num_hidden_layers", "projector.qformer.encoder.layer")]
    norms = (
        [("projector_config", "num_encoder_layers", "projector.layer_norms")] if config.projector_norms_learn else []
    )
    return [*lists, ("projector_config", "num_layers", "projector.qformer.layers"), *norms]


def _network(
    folder: Path, config: ModelConfig | NarConfig, stored: Mapping[str, Stored]
) -> GraniteSpeech | GraniteSpeechNar:
    if isinstance(config, NarConfig):
        return GraniteSpeechNar(config)
    return GraniteSpeech(config, _bpe_labels(folder, config, stored), _lora(folder, config, stored))


def _bpe_labels(folder: Path, config: ModelConfig, stored: Mapping[str, Stored]) -> int | None:
    """Labels of the BPE head, if any: blank and at most the vocabulary."""
    path = folder / BPE_HEAD
    if not is_file(path):
        return None
    bias = stored.get("bpe_head.bias")
    most = config.text_config.vocab_size + 1
    if bias is None or len(bias.shape) != 1 or not 2 <= bias.shape[0] <= most:
        seen = "no such tensor" if bias is None else f"a shape of {list(bias.shape)}"
        raise CheckpointError(f"{path}: 'bias' has {seen}; expected are 2 to {most} labels")
    return bias.shape[0]


def _lora(folder: Path, config: ModelConfig, stored: Mapping[str, Stored]) -> LoraConfig | None:
    """Adapter configuration if `has_lora_adapter` is set; files must agree."""
    present = is_file(folder / ADAPTER)
    if present != config.has_lora_adapter:
        state = "is there" if present else "is missing"
        raise CheckpointError(f"has_lora_adapter is {config.has_lora_adapter} in {CONFIG}, but {ADAPTER} {state}")
    layers = sorted({name.partition(".lora_")[0] for name in stored if is_adapter(name)})
    return LoraConfig.from_dict(read_json(folder / ADAPTER_CONFIG), layers) if present else None
