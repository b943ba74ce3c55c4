"""The text of an rclone configuration, for whoever starts an rclone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


def text(sections: Mapping[str, Mapping[str, str]], remote: str) -> str:
    """The sections one after the other; the one called "" is that of ``remote``, and the first.

    Raises ConfigurationError if a value has a line break, behind which it could say anything.
    """
    lines: list[str] = []
    for section, values in sorted(sections.items()):
        lines.append(f"[{section or remote}]")
        for name, value in sorted(values.items()):
            if "\n" in name + value or "\r" in name + value:
                raise ConfigurationError(
                    f"The setting {name.splitlines()[0]!r} of the store has a line break in it.",
                    hint="Give it on one line; rclone takes \\n in a key for a line break.",
                )
            lines.append(f"{name} = {value}")
    return "\n".join(lines) + "\n"
