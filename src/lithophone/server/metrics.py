"""Measures of the server in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A registry of its own, so that several servers in one process count apart."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("lithophone_requests", "Answers.", ["route", "status"], registry=registry)
        self.latency = Histogram(
            "lithophone_request_seconds", "Time to the end of an answer.", ["route"], registry=registry,
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
        )  # fmt: skip
        self.audio = Counter("lithophone_audio_seconds", "Audio transcribed.", ["model"], registry=registry)
        self.speed = Histogram(
            "lithophone_rtfx", "Seconds of audio per second of a request.", ["model"], registry=registry,
            buckets=(0.5, 1, 2, 5, 10, 20, 50, 100, 500),
        )  # fmt: skip
        self.refused = Counter("lithophone_refused", "Requests answered with 429.", registry=registry)
        self.cancelled = Counter("lithophone_cancelled", "Requests whose client went away.", registry=registry)
        self.running = Gauge("lithophone_running", "Requests being transcribed.", registry=registry)
        self.waiting = Gauge("lithophone_waiting", "Requests waiting for a place.", registry=registry)
        self.held = Gauge("lithophone_held_bytes", "Bodies of requests in memory.", registry=registry)

    def transcribed(self, model: str, audio_s: float, elapsed_s: float) -> None:
        self.audio.labels(model).inc(audio_s)
        self.speed.labels(model).observe(audio_s / max(elapsed_s, 1e-3))

    def text(self) -> bytes:
        return generate_latest(self.registry)
