"""Language model and projector from Whisper's decoder, for an encoder of the recipe `transplant`.

    lithophone train transplant_decoder --data speech/train.jsonl --tokenizer runs/tokenizer \\
        --encoder runs/transplant --out runs/decoder

The tokenizer is cut from Whisper's (`tokenizer --cut`), the encoder was trained with it. Both folders go to the recipe
`speech`, with `--projector-ctc 0`.

Nothing is trained here: statistics of `--batches` batches decide what is kept where the language model has less room
than Whisper's decoder. `docs/training.md` has the mapping.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lithophone.audio.features import FRAME_S
from lithophone.errors import OptionError
from lithophone.files import replacing
from lithophone.model.config import EncoderConfig, TextConfig
from lithophone.model.conformer import Conformer
from lithophone.model.granite import GraniteForCausalLM
from lithophone.model.qformer import WindowQFormer
from lithophone.text.prompts import Transcribe, build_prompt
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.base_model import read_part
from lithophone.train.data.augment import Augment
from lithophone.train.run.arguments import Data, add_data_arguments, begin, recipe_parser
from lithophone.train.run.distributed import Ranks
from lithophone.train.transplant.decoder_statistics import DecoderBatch, DecoderStatistics, measure_decoder
from lithophone.train.transplant.language_model import (
    init_embeddings,
    init_projector,
    parse_plan,
    position_frequencies,
    projector_config,
    text_config,
    transplant_decoder,
)
from lithophone.train.transplant.marks import SPARE
from lithophone.train.transplant.positions import PositionHeads, fit_positions
from lithophone.train.transplant.reading import OTHER_NAMES
from lithophone.train.transplant.whisper_decoder import IGNORED, DecoderInput, TextTeacher
from lithophone.train.transplant.whisper_weights import whisper_folder

USUAL_S = 10.0
"""Positions matter most up to this time."""


def read_encoder(folder: Path) -> Conformer:
    values, weights = read_part(folder, "encoder")
    encoder = Conformer(EncoderConfig.from_dict(values))
    own = {name.removeprefix("encoder."): tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    encoder.load_state_dict(own)
    return encoder.eval()


@torch.no_grad()
def decoder_batches(
    encoder: Conformer, text: TextTeacher, to_decoder: DecoderInput, data: Data, ranks: Ranks
) -> Iterator[DecoderBatch]:
    """What Whisper's decoder is given where the encoder is the new one."""
    for batch in data.batches(Augment.none(), 0, ranks):
        ids, targets = text.rows(batch.texts, batch.langs)
        states = to_decoder(encoder(batch.frames, batch.lengths).last)
        n = states.shape[1]
        valid = torch.arange(n) < batch.lengths[:, None]
        yield DecoderBatch(ids, targets != IGNORED, states, valid, to_decoder.offset[:n])


def position_heads(
    offset: Tensor, statistics: DecoderStatistics, window: int, first: int, config: TextConfig
) -> PositionHeads:
    """Heads that add what Whisper's states have of positions to audio embeddings, the first of them at `first`."""
    windows = offset[: len(offset) // window * window].unflatten(0, (-1, window)).mean(1)
    seconds = torch.arange(len(windows)) * (window * FRAME_S)
    importance = torch.where(seconds < USUAL_S, 1.0, 0.5) * torch.where(seconds < 2.0 * USUAL_S, 1.0, 0.3)
    target = windows - statistics.offset_mean
    heads, frequencies = config.num_attention_heads // 2, position_frequencies(config)
    found = fit_positions(target, frequencies, heads, first=first, importance=importance)
    sums = found.sums(torch.arange(first, first + len(target)), torch.tensor(frequencies))
    left = (importance * (sums - target).square().sum(1)).sum() / (importance * target.square().sum(1)).sum()
    print(f"positions of audio: {len(found.bias)} heads, {100 * float(left):.1f} % of the energy is left", flush=True)
    return found


def token_embeddings(text: TextTeacher, tokenizer: Tokenizer) -> list[Tensor]:
    """Whisper's embedding of each token by its name; zeros where Whisper has none."""
    known = {piece: number for number, piece in enumerate(text.tokenizer.pieces)}
    none = torch.zeros_like(text.decoder.embeddings[0])
    names = (OTHER_NAMES.get(piece, piece) for piece in tokenizer.pieces)
    return [text.decoder.embeddings[known[name]] if name in known else none for name in names]


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--whisper", type=Path, help="folder of a Whisper model (default: whisper-base, downloaded)")
    add_data_arguments(parser, batch_seconds=60.0, dev=False)
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="folder of a tokenizer that was cut from Whisper's"
    )
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the recipe transplant")
    parser.add_argument(
        "--plan",
        default="s1,c1m1,s2c2m2,s3c3m3,s5c5m5,s6c6m6",
        help="layers, and what each takes from Whisper's: attention to text, to audio, MLP",
    )
    parser.add_argument("--units", type=int, default=1024, help="of an MLP")
    parser.add_argument("--window", type=int, default=3, help="encoder states of an audio embedding")
    parser.add_argument("--batches", type=int, default=8, help="for the statistics")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers")
    parser.add_argument("--workers", type=int, default=0, help="loader processes; 0: batches are made between steps")
    args = parser.parse_args(argv)

    args.device = "cpu"
    ranks = begin(args)
    folder = whisper_folder(args.whisper, ranks)
    text = TextTeacher.from_folder(folder)
    decoder, tokenizer = text.decoder, Tokenizer.from_folder(args.tokenizer)
    plan = parse_plan(args.plan, len(decoder.layers))
    encoder = read_encoder(args.encoder)
    to_decoder = DecoderInput.from_folders(folder, args.encoder)
    data = Data.read(args, ranks)
    batches = decoder_batches(encoder, text, to_decoder, data, ranks)
    statistics = measure_decoder(decoder, islice(batches, args.batches))

    ends = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    config = replace(text_config(decoder, plan, len(tokenizer), args.units), **ends)
    language_model = GraniteForCausalLM(config)
    prompt = build_prompt(Transcribe(), tokenizer, "granite_speech", n_audio=1)
    start, second, *_ = prompt
    first = prompt.index(tokenizer.audio_id)
    if first < 2:
        raise OptionError(
            f"{args.tokenizer}: a prompt must have two tokens in front of audio, as `tokenizer --cut` writes"
        )
    positions = None
    if plan[0].cross_attention is None:
        positions = position_heads(to_decoder.offset, statistics, args.window, first, config)
    transplant_decoder(decoder, language_model, plan, statistics, positions)
    embeddings = token_embeddings(text, tokenizer)
    init_embeddings(decoder, language_model, embeddings, (start, second), statistics)
    size, heads = config.hidden_size - SPARE, config.num_attention_heads // 2
    reader = projector_config(size, encoder.config.output_size, heads)
    projector = WindowQFormer(reader, config.hidden_size, args.window, args.window)
    init_projector(projector, statistics, positions)

    shape = {"window_size": args.window, "downsample_rate": args.window}
    save(args.out, "language_model", language_model, config.to_dict())
    save(args.out, "projector", projector, reader.to_dict() | shape)


def save(folder: Path, name: str, module: torch.nn.Module, values: dict[str, object]) -> None:
    """A part as `base_model.read_part` reads it."""
    with replacing(folder / f"{name}.safetensors", one_writer=True) as part:
        save_file({f"{name}.{key}": tensor.contiguous() for key, tensor in module.state_dict().items()}, part)
    (folder / f"{name}_config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
