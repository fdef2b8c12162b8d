"""Weight interpolation between a trained encoder and the one it started from (Wortsman et al. 2022).

    lithophone train interpolate runs/encoder --towards lithophone-tiny --share 0.25 \\
        --tokenizer runs/tokenizer --out runs/between

Both must descend from the same weights. `OUT` is a folder for `encoder --init`: batch normalisation's running
statistics need a short run from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lithophone.errors import OptionError
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.encoder_task import EncoderTask, save_weights, task_from
from lithophone.train.run.arguments import recipe_parser


def between(trained: EncoderTask, origin: EncoderTask, share: float) -> None:
    """Move floating-point state of `trained` by `share` of the way to `origin`."""
    theirs = origin.state_dict()
    for name, mine in trained.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(theirs[name], share)


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("encoder", help="the trained encoder: a folder of the recipe encoder, or a model")
    parser.add_argument("--towards", required=True, help="the encoder it started from: a folder or a model")
    parser.add_argument("--share", type=float, default=0.25, help="share of the way back to --towards")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    args = parser.parse_args(argv)

    tokenizer = Tokenizer.from_folder(args.tokenizer)
    trained, origin = (task_from(name, tokenizer) for name in (args.encoder, args.towards))
    if trained.encoder.config != origin.encoder.config:
        raise OptionError(f"{args.encoder} and {args.towards} have encoders of different sizes: they must be equal")
    between(trained, origin, args.share)
    args.out.mkdir(parents=True, exist_ok=True)
    save_weights(trained.state_dict(), trained.encoder.config, args.out)


if __name__ == "__main__":
    main()
