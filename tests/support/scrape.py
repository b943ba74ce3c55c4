"""What a Prometheus server takes from one answer, read by the parser of its client library."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """Every series of an answer; it fails if one is told twice."""

    def __init__(self, text: str) -> None:
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series = sample.name, frozenset(sample.labels.items())
                assert series not in self._values, f"twice: {series}"
                self._values[series] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self._values[name, frozenset(labels.items())]

    def series(self) -> list[tuple[str, dict[str, str]]]:
        """The name and the labels of each."""
        return [(name, dict(labels)) for name, labels in self._values]
