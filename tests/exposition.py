"""A strict reader of the Prometheus text exposition format 0.0.4, for tests."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
HELP = re.compile(rf"# HELP ({NAME}) (.+)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge)")
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? ([-+0-9.e]+|NaN|\+Inf|-Inf)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,(?!$)|$)')
UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass
class Family:
    """What is told of one metric."""

    kind: str
    help: str
    samples: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    def value(self, **labels: str) -> float:
        return self.samples[tuple(labels.items())]


def parse(text: str) -> dict[str, Family]:
    """Every metric by name; an AssertionError for whatever a server might stumble over."""
    assert text.endswith("\n"), "the last line ends with a newline"
    found: dict[str, Family] = {}
    current, helped = "", ("", "")
    for line in text[:-1].split("\n"):
        if match := HELP.fullmatch(line):
            helped = match.groups()
            assert helped[0] not in found, f"a second HELP: {line}"
        elif match := TYPE.fullmatch(line):
            current, kind = match.groups()
            assert helped[0] == current, f"no HELP before {line}"
            found[current] = Family(kind, helped[1])
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line!r}"
            name, inside, number = match.groups()
            assert name == current, f"{name} among the samples of {current}"
            labels = _labels(inside or "")
            family = found[name]
            assert labels not in family.samples, f"twice: {line}"
            family.samples[labels] = float(number)
    assert all(family.kind == "counter" for name, family in found.items() if "_total" in name)
    return found


def _labels(inside: str) -> tuple[tuple[str, str], ...]:
    labels, at = [], 0
    while at < len(inside):
        match = LABEL.match(inside, at)
        assert match, f"not a label: {inside[at:]!r}"
        value = re.sub(r'\\[\\"n]', lambda found: UNESCAPED[found[0]], match[2])
        labels.append((match[1], value))
        at = match.end()
    assert len({name for name, _ in labels}) == len(labels), "a label twice"
    return tuple(labels)
