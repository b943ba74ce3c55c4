"""A command of mountkit in the test's own process, for what is not about the process."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING
from unittest import mock

from mountkit import cli

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def invoke(words: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    """Its exit code and what it said. Starting a Python takes ten times as long as most of them."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, env, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main(list(words))
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return code, out.getvalue(), err.getvalue()
