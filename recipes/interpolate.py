"""A point between two trained encoders: what the first learned since it left the second, less what it forgot of it.

    python recipes/interpolate.py checkpoints/encoder6 --towards lithophone-tiny --share 0.25 \\
        --tokenizer checkpoints/tokenizer6 --out checkpoints/between

Both must come from the same weights, or what lies between them is nothing. `OUT` is a folder that `recipes/encoder.py
--init` starts from: a short descent from there settles what interpolation blurs, running statistics above all.
Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from encoder import TINY, EncoderTask, save_weights, start_from

from lithophone.text.tokenizer import Tokenizer
from lithophone.train.run.arguments import recipe_parser


def between(trained: EncoderTask, origin: EncoderTask, share: float) -> None:
    """Move every number of `trained` by `share` of the way to that of `origin`; counts stay."""
    theirs = origin.state_dict()
    for name, mine in trained.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(theirs[name], share)


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("encoder", help="the trained encoder: a folder that recipes/encoder.py wrote, or a model")
    parser.add_argument("--towards", required=True, help="where it came from: the same")
    parser.add_argument("--share", type=float, default=0.25, help="of the way back")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)

    tokenizer = Tokenizer.from_folder(args.tokenizer)
    trained, origin = (EncoderTask(TINY, len(tokenizer), 0) for _ in range(2))
    start_from(trained, args.encoder, tokenizer)
    start_from(origin, args.towards, tokenizer)
    between(trained, origin, args.share)
    args.out.mkdir(parents=True, exist_ok=True)
    save_weights(trained.state_dict(), trained, args.out)


if __name__ == "__main__":
    main()
