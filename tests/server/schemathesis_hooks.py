"""For the command of schemathesis: requests that reach further than the parser of the form."""

from __future__ import annotations

import base64
import io
import random
import wave
from typing import Any

import schemathesis
from hypothesis import strategies as st

FEW = 3
"""Fields beside the recording in a request by the document; all of them at once exclude each other."""


def tone(rate_hz: int, samples: int) -> bytes:
    """A square wave of 400 Hz as WAV."""
    file = io.BytesIO()
    half = rate_hz // 800
    values = ((8_000 if n // half % 2 else -8_000) for n in range(samples))
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, rate_hz, 0, "NONE", ""))
        out.writeframes(b"".join(value.to_bytes(2, "little", signed=True) for value in values))
    return file.getvalue()


SOUNDS = st.sampled_from([tone(16_000, 8_000), tone(8_000, 1_600), tone(44_100, 30_000), tone(16_000, 0)])
schemathesis.openapi.format("binary", st.one_of(SOUNDS, SOUNDS, st.binary(max_size=2_000)))
schemathesis.openapi.format("byte", SOUNDS.map(lambda sound: base64.b64encode(sound).decode()))

SPOKEN = {"data": base64.b64encode(tone(16_000, 4_000)).decode(), "format": "wav"}


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    if case.meta.generation.mode.is_positive:
        needed = {"file", "audio_file", "messages", "input_audio"}
        for fields in (case.body, case.query):
            if isinstance(fields, dict):
                optional = sorted(fields.keys() - needed)
                kept = random.Random(repr(optional)).sample(optional, min(FEW, len(optional)))
                for name in set(optional) - set(kept):
                    del fields[name]
                if "messages" in fields and random.Random(repr(fields)).random() < 0.7:
                    fields["messages"] = [{"role": "user", "content": [{"type": "input_audio", "input_audio": SPOKEN}]}]
    return case
