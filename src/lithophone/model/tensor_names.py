"""Names of tensors in files <-> names of our parameters.

Ours are those of the published checkpoints: of granite-speech-4.1-2b, and for nar models of the second generation of
granite-speech-4.1-2b-nar. Sources: the reference implementations; for the first generation of nar (`NLE`) and the third
(`NATIVE`), which no release of `transformers` knows, public converters. Knows names only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """How a file names things, against how we do: beginnings, of which the first that fits counts, and inner parts."""

    beginnings: tuple[tuple[str, str], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    def ours(self, name: str) -> str:
        """A name in the file -> our name; a name that is ours stays as it is."""
        for theirs, part in self.parts:
            name = name.replace(theirs, part)
        return next((own + name.removeprefix(b) for b, own in self.beginnings if name.startswith(b)), name)

    def theirs(self, name: str) -> str:
        """Our name -> its name in the file."""
        for part, own in self.parts:
            name = name.replace(own, part)
        return next((b + name.removeprefix(own) for b, own in self.beginnings if name.startswith(own)), name)


PUBLISHED = Names()
"""The files' names are ours."""

NLE = Names((("llm.", "language_model."),))

NATIVE = Names(
    (
        ("lm_head.", "language_model.lm_head."),
        ("model.language_model.", "language_model.model."),
        ("model.out_bpe.", "encoder.out_bpe."),
        ("model.projector.proj.", "projector.layer_projector."),
        ("model.projector.qformer.queries", "projector.query"),
        ("model.projector.qformer.pos_emb", "projector.window_positions"),
        ("model.projector.qformer.linear.", "projector.out_linear."),
        ("model.encoder.", "encoder."),
        ("model.projector.", "projector."),
    ),
    ((".cross_attn.", ".cross_attention."),),
)
"""What newer `transformers` write; the base and plus models have no more than the encoder, projector and language model
of it."""

NESTED = Names((("language_model.model.model.", "language_model.model."),))
"""granite-speech-4.1-2b-plus since October 2026: the decoder one level deeper."""

ANY = Names(NLE.beginnings + NESTED.beginnings + NATIVE.beginnings, NATIVE.parts)
"""For reading: no name stands for two things."""
