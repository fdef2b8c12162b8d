"""Hostile bodies and files: each is answered, none with 500, and the server goes on."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from lithophone.pipeline.assembly import Event
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.settings import MEGABYTE, Settings
from lithophone.server.transcriptions import FIELDS
from tests.conftest import DEMO
from tests.server.running import Running, Short, running, wait_until, wav
from tests.sounds import tone, write_container

PATHS = ("/v1/audio/transcriptions", "/v1/audio/translations")
CONTAINERS = {"a.mp4": "aac", "a.mkv": "aac", "a.ogg": "libopus", "a.mp3": "libmp3lame", "a.flac": "flac"}
ODD = (
    "", " ", "0", "-1", "1e308", "nan", "inf", "true", "null", "[]", "{}", "\0", "\r\n", "é" * 500, "x" * 5_000,
    "<|audio|>",
    "../../etc/passwd", "%s%n", "9" * 400, "word", "verbose_json", "ja", "speakers", "sample", "beam", "\ud83d\ude00",
)  # fmt: skip
WHOLE = 2_000


class Capped(Short):
    """With few tokens for each window; everything else as it is asked for."""

    def events(self, sources: Any, *, options: TranscribeOptions, **given: Any) -> Iterator[Event]:
        few = {} if options.decode in ("ctc", "edit") else {"max_new_tokens": 4}
        return self.transcriber.events(sources, options=dataclasses.replace(options, **few), **given)


@pytest.fixture(scope="module")
def limited(tiny: Transcriber) -> Iterator[Running]:
    settings = Settings(model=("tiny",), max_upload_mb=3, max_duration_s=120, request_timeout_s=50, parse_cpu_s=5)
    with running(settings, lambda name: cast(Transcriber, Capped(tiny))) as server:
        yield server


def recordings(folder: Path) -> list[bytes]:
    """A valid recording in every container."""
    sound = tone(1.5, 48_000)
    made = [write_container(folder / name, sound, 48_000, codec).read_bytes() for name, codec in CONTAINERS.items()]
    return [*made, wav(), DEMO.read_bytes()]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut, with bytes changed, with a stretch repeated, or with sizes of the header at their limits."""
    body = bytearray(data)
    kind = rng.randrange(4)
    if kind == 0:
        return bytes(body[: rng.randrange(len(body))])
    for _ in range(rng.choice((1, 3, 30))):
        at = rng.randrange(len(body) if kind == 1 else min(len(body), 200))
        body[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", rng.randbytes(4)))
    if kind == 2:
        first = rng.randrange(len(body))
        body[first:first] = body[first : first + rng.randrange(20_000)]
    return bytes(body)


def request(rng: random.Random, files: list[bytes]) -> dict[str, Any]:
    """Odd fields with a damaged file, a damaged body, or odd JSON."""
    kind = rng.randrange(5)
    names = [*FIELDS, "task", "num_beams", "punctuate", "batch_size", "limit_s", "to", "decode", "top_k", "seed", "zz"]
    fields = {rng.choice(names): rng.choice(ODD) for _ in range(rng.randrange(4))}
    if kind == 0:
        body = {**fields, "input_audio": rng.choice((None, 3, [], {}, {"data": rng.choice(ODD)}, "x"))}
        return {"content": json.dumps(body).encode(), "headers": {"content-type": "application/json"}}
    if kind == 1:
        boundary = rng.choice(("b", "b" * 90, ""))
        body = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{rng.choice(ODD)}"\r\n\r\n'.encode(
            "utf-8", "surrogatepass"
        )
        content = damaged(body + wav(0.2) + b"\r\n--b--\r\n", rng)
        return {"content": content, "headers": {"content-type": f"multipart/form-data; boundary={boundary}"}}
    data = fields if kind != 2 else {}
    data = {name: value.encode("utf-8", "replace").decode() for name, value in data.items()}
    return {"data": data, "files": {"file": ("a", damaged(rng.choice(files), rng))}}


def check(server: Running, files: list[bytes], seeds: range) -> list[int]:
    def answered(seed: int) -> int:
        rng = random.Random(seed)
        reply = server.post(rng.choice(PATHS), **request(rng, files))
        assert reply.status_code < 500, (seed, reply.text)
        if reply.status_code >= 400:
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}, seed
        return reply.status_code

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(answered, seeds))


def test_hostile_requests_are_answered(limited: Running, tmp_path: Path) -> None:
    statuses = check(limited, recordings(tmp_path), range(40))
    assert {200, 400} <= set(statuses)
    assert limited.jobs.running == 0 or limited.get("/health").status_code == 200


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc of Linux")
def test_2000_hostile_requests_are_answered_and_leave_nothing(limited: Running, tmp_path: Path) -> None:
    """Memory is that of server and clients, after a quarter of the requests and after all."""
    files = recordings(tmp_path)
    statuses = check(limited, files, range(1_000, 1_000 + WHOLE // 4))
    before = settled(limited)
    statuses += check(limited, files, range(1_000 + WHOLE // 4, 1_000 + WHOLE))
    assert statuses.count(200) > 100
    assert limited.post(PATHS[0], files={"file": wav()}).status_code == 200
    after = settled(limited)
    assert after < 1.05 * before, f"{before / MEGABYTE:.0f} -> {after / MEGABYTE:.0f} MB"
    assert len(os.listdir("/proc/self/fd")) < 200


def settled(server: Running) -> float:
    """Bytes of this process once no request is under way."""
    wait_until(lambda: (server.jobs.running, server.jobs.uploads, server.jobs.held) == (0, 0, 0))
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
