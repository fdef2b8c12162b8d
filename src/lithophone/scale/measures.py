"""Measures of many processes as one text for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

FRONT = "front"
"""In the place of a replica's name."""


def joined(texts: Mapping[str, str], own: CollectorRegistry) -> bytes:
    """The own measures and those of every replica, told apart by the label `replica`."""
    return generate_latest(_Joined({FRONT: generate_latest(own).decode(), **texts}))


class _Joined(Collector):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, text in self.texts.items():
            for family in text_string_to_metric_families(text):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known.samples += [one._replace(labels={"replica": replica, **one.labels}) for one in family.samples]
        yield from families.values()
