#!/usr/bin/env bash
# A WAV file with NMS ADPCM (codec number 0x38, registered for it, and written by libsndfile) is opened by FFmpeg as
# AMR-NB: no error on opening, and other sound of another length. libsndfile reads the same file back rightly.
# Seen with PyAV 18.1.0 (its FFmpeg) and soundfile 0.14.0 (libsndfile 1.2.2). Expected: ADPCM, or an unknown codec.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 soundfile==0.14.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import av
import numpy as np
import soundfile

tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 8_000)
soundfile.write("tone.wav", tone, 8_000, subtype="NMS_ADPCM_24")
back, _ = soundfile.read("tone.wav")
with av.open("tone.wav") as container:
    (stream,) = container.streams.audio
    name, decoded = stream.codec_context.name, 0
    for packet in container.demux(stream):
        try:
            decoded += sum(frame.samples for frame in packet.decode())
        except av.FFmpegError:
            pass
print("PyAV", av.__version__, "- libsndfile", soundfile.__libsndfile_version__)
print(f"libsndfile: {len(back)} samples, correlation with what was written {np.corrcoef(back[:16_000], tone)[0, 1]:.3f}")
print(f"FFmpeg: codec {name!r}, {decoded} samples of 16000")
assert len(back) >= 16_000 and np.corrcoef(back[:16_000], tone)[0, 1] > 0.9
assert name.startswith("amr") and decoded != len(back)
PYTHON
echo "as described"
