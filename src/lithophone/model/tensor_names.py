"""Tensor names in files <-> our parameter names.

Ours are those of granite-speech-4.1-2b, and for nar models of granite-speech-4.1-2b-nar (second generation). Sources:
the reference implementations; for nar's first (`NLE`) and third (`NATIVE`) generation, public converters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """Naming in a file: prefixes, of which the first match counts, and inner parts."""

    beginnings: tuple[tuple[str, str], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    def ours(self, name: str) -> str:
        """Name in the file -> our name; ours stay."""
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
"""Names of newer `transformers`; base and plus models have only encoder, projector and language model."""

NESTED = Names((("language_model.model.model.", "language_model.model."),))
"""granite-speech-4.1-2b-plus since October 2026: the decoder one level deeper."""

ANY = Names(NLE.beginnings + NESTED.beginnings + NATIVE.beginnings, NATIVE.parts)
"""For reading: all names are unambiguous."""
