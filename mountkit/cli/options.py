"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def _stack(*decorators: Callable[[Any], Any]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


output_format = click.option(
    "--format",
    "output",
    type=click.Choice(["human", "json"]),
    default="human",
    help="What stdout gets: text for people, or one JSON object.",
)

store_options = _stack(
    click.option("--endpoint-url", metavar="URL", help="The store, where it is not AWS."),
    click.option("--region", metavar="NAME", help="The bucket's region."),
    click.option("--profile", metavar="NAME", help="A profile of ~/.aws/config."),
)

mount_options = _stack(
    click.option("--backend", metavar="NAME", help="auto (default), rclone, mountpoint or direct."),
    store_options,
    click.option("--cache-dir", metavar="DIR", help="Where files wait for their upload."),
    click.option(
        "--keep-local",
        metavar="WHICH",
        help="Proven checkpoints with a local copy: newest (default), none or all.",
    ),
    click.option("--cache-size", metavar="SIZE", help="Room for all local copies, such as 50GB."),
    click.option(
        "--node", metavar="N", help="Of machines that train together, which one this is: 0, 1, ..."
    ),
    click.option(
        "--largest-file", metavar="SIZE", help="No file will be larger, such as 150GB (default)."
    ),
    click.option(
        "--option", "options", metavar="KEY=VALUE", multiple=True, help="Passed on to the daemon."
    ),
)

grace = click.option(
    "--grace",
    metavar="SECONDS",
    help="From the platform's SIGTERM to its SIGKILL: be done by then.",
)

trainer_options = _stack(
    click.option(
        "--attach/--no-attach",
        default=None,
        help="Prove each Trainer's checkpoints while it trains (default), or only at the end.",
    ),
    click.option(
        "--resume/--no-resume",
        default=None,
        help="Have trainer.train() go on from the newest proven checkpoint.",
    ),
    click.option(
        "--on-failure",
        type=click.Choice(["raise", "warn"]),
        help="A checkpoint that cannot be proven ends the training (default), or is logged.",
    ),
    click.option(
        "--load-path",
        metavar="PATH_OR_URL",
        help="Begin with these weights where there is no checkpoint to resume from.",
    ),
)

service_options = _stack(
    click.option(
        "--listen",
        metavar="[HOST:]PORT",
        help="Serve /healthz, /readyz and /metrics there; on 127.0.0.1 without a HOST.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["human", "json"]),
        help="What stderr gets: lines for people (default), or one JSON object a line.",
    ),
)


def size_of(flag: str, text: str, example: str, least: int = 0) -> int:
    """The bytes that a flag such as ``--size 256MB`` asks for.

    Raises UsageError if it is no size, or less than ``least``.
    """
    from mountkit.config import values
    from mountkit.errors import UsageError

    size = values.size(text)
    if size is None or size < least:
        raise UsageError(f"{flag} {text!r} is not a size.", hint=f"Such as: {flag} {example}")
    return size
