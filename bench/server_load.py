"""Many clients of a server at once, against the same requests one at a time: words, throughput, latency, memory.

    python bench/server_load.py --clients 50 --seconds 60 --rounds 10 --manifest ../shared/speech/dev.jsonl

Clips are short and of mixed languages; routes are mixed. Words must equal those of single requests. At last a clip is
sent while ten long recordings are under way.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import soundfile

from lithophone.audio.reader import load_audio
from lithophone.audio.samples import RATE_HZ
from lithophone.data.manifest import read_entries

ROUTES = ("transcriptions", "stream", "asr")
LONG_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2, help="of that many seconds, with all clients")
    parser.add_argument("--decode", default="greedy")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    clips = some_clips(args.manifest, args.clips)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "lithophone", "serve", "--port", str(port), "--max-waiting", str(args.clients)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        load = Load(f"http://127.0.0.1:{port}", clips, args.decode)
        load.wait()
        found: dict[str, Any] = {"single": load.run(1, args.seconds), "memory_mb": [memory_mb(server.pid)]}
        found["rounds"] = []
        for _ in range(args.rounds):
            found["rounds"].append(load.run(args.clients, args.seconds))
            found["memory_mb"].append(memory_mb(server.pid))
        found["beside_long"] = load.beside_long()
    finally:
        server.terminate()
        server.wait(timeout=90)
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def some_clips(manifest: Path, count: int) -> list[tuple[bytes, str, float]]:
    """Bytes, language and seconds; evenly from the manifest."""
    entries = [entry for entry in read_entries(manifest) if entry.lang]
    picked = random.Random(0).sample(entries, count)
    return [(Path(entry.audio).read_bytes(), str(entry.lang), float(entry.duration_s or 0)) for entry in picked]


class Load:
    """Requests of all clips by all routes, and the texts of single requests."""

    def __init__(self, url: str, clips: list[tuple[bytes, str, float]], decode: str) -> None:
        self.url, self.clips, self.decode = url, clips, decode
        self.expected: dict[tuple[int, str], str] = {}

    def wait(self) -> None:
        for _ in range(600):
            try:
                if httpx2.get(f"{self.url}/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        raise SystemExit("the server does not start")

    def run(self, clients: int, seconds: float) -> dict[str, Any]:
        """Measures of that many clients, each with one request at a time."""
        ends, lock, numbers = time.monotonic() + seconds, threading.Lock(), itertools.count()
        times: list[float] = []
        counts = {"answered": 0, "failed": 0, "other_words": 0}
        audio_s = 0.0

        def client() -> None:
            nonlocal audio_s
            with httpx2.Client(timeout=600) as http:
                while time.monotonic() < ends:
                    number = next(numbers)
                    clip, route = number % len(self.clips), ROUTES[number // len(self.clips) % len(ROUTES)]
                    began = time.monotonic()
                    text = self.request(http, clip, route)
                    with lock:
                        times.append(time.monotonic() - began)
                        counts["answered"] += text is not None
                        counts["failed"] += text is None
                        if text is not None:
                            audio_s += self.clips[clip][2]
                            counts["other_words"] += self.expected.setdefault((clip, route), text) != text

        began = time.monotonic()
        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.monotonic() - began
        return {
            **counts, "seconds": round(elapsed, 1), "requests_per_s": round(len(times) / elapsed, 2),
            "audio_s_per_s": round(audio_s / elapsed, 2), "p50_s": round(statistics.median(times), 2),
            "p95_s": round(sorted(times)[int(0.95 * (len(times) - 1))], 2),
        }  # fmt: skip

    def beside_long(self) -> dict[str, float]:
        """Seconds for a clip on an idle server, and beside ten recordings of `LONG_S`; medians."""
        recording = joined([data for data, _, _ in self.clips], LONG_S)
        lang = self.clips[0][1]

        def long() -> None:
            with contextlib.suppress(httpx2.TransportError):  # the server ends
                httpx2.post(f"{self.url}/asr", params={"language": lang, "decode": self.decode},
                            files={"audio_file": recording}, timeout=600)  # fmt: skip

        idle_s = self._clip_s()
        for _ in range(10):
            threading.Thread(target=long, daemon=True).start()
        time.sleep(5.0)
        busy_s = self._clip_s()
        return {"idle_s": round(idle_s, 2), "busy_s": round(busy_s, 2), "ratio": round(busy_s / idle_s, 2)}

    def _clip_s(self) -> float:
        times = []
        with httpx2.Client(timeout=600) as http:
            for _ in range(5):
                began = time.monotonic()
                assert self.request(http, 0, "transcriptions") is not None
                times.append(time.monotonic() - began)
        return statistics.median(times)

    def request(self, http: httpx2.Client, clip: int, route: str) -> str | None:
        data, lang, _ = self.clips[clip]
        fields = {"language": lang, "decode": self.decode}
        if route == "asr":
            reply = http.post(f"{self.url}/asr", params=fields, files={"audio_file": data})
            return " ".join(reply.text.split()) if reply.status_code == 200 else None
        stream = {"stream": "true"} if route == "stream" else {}
        reply = http.post(f"{self.url}/v1/audio/transcriptions", data=fields | stream, files={"file": data})
        if reply.status_code != 200:
            return None
        if not stream:
            return str(reply.json()["text"])
        lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")]
        done = [event for event in map(json.loads, lines) if event["type"] == "transcript.text.done"]
        return str(done[0]["text"]) if done else None


def joined(clips: Iterable[bytes], seconds: float) -> bytes:
    """A WAV file of clips, again and again."""
    samples = np.concatenate([load_audio(io.BytesIO(data)) for data in clips])
    file = io.BytesIO()
    soundfile.write(file, np.resize(samples, round(seconds * RATE_HZ)), RATE_HZ, format="WAV")
    return file.getvalue()


def memory_mb(process: int) -> int:
    """Resident memory of the server."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1000
    return 0


if __name__ == "__main__":
    main()
