"""What a store's answers tell beside what was asked: the time, the region, and redirections."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from mountkit.doctor.findings import Finding
from mountkit.errors import ConfigurationError
from mountkit.formatting import span
from mountkit.store.s3 import error_codes

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIGURATION = ConfigurationError.exit_code
# A store refuses requests that are 15 minutes off.
WARN_SECONDS, FAIL_SECONDS = 60.0, 14 * 60.0
SET_CLOCK = "Set the clock of this machine: timedatectl set-ntp true"


@dataclass
class Observed:
    """Filled by ``note`` with each answer of the store, those included that botocore tries again.

    ``skew`` is by how many seconds this machine's clock is ahead of the store's, None if the store
    does not tell; ``region`` the bucket's, "" likewise. ``redirected`` tells that a request went to
    another region, ``too_skewed`` that the store refused one for its time.
    """

    skew: float | None = None
    region: str = ""
    redirected: bool = False
    too_skewed: bool = False

    def note(self, parsed_response: Mapping[str, Any] | None, **_: Any) -> None:
        """Take in an answer; the signature is that of botocore's ``response-received``."""
        if parsed_response is None:
            return
        headers = parsed_response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        error = parsed_response.get("Error", {})
        code = str(error.get("Code", ""))
        self.redirected |= code in error_codes.REGION
        self.too_skewed |= code in error_codes.CLOCK
        self.region = headers.get("x-amz-bucket-region") or error.get("Region") or self.region
        self._note_date(headers.get("date", ""))

    def _note_date(self, text: str) -> None:
        try:
            self.skew = time.time() - parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError):
            return


def judge_clock(observed: Observed) -> Finding:
    """F35, in so many words."""
    name, title = "clock", "clock"
    if observed.skew is None:
        if observed.too_skewed:
            detail = "The clock of this machine and that of the store differ too much."
            return Finding(name, title, "failed", detail, SET_CLOCK, CONFIGURATION)
        return Finding(name, title, "skipped", "The store does not tell the time.")
    off = abs(observed.skew)
    if off <= WARN_SECONDS and not observed.too_skewed:
        return Finding(name, title, "ok", "agrees with the store's")
    how = f"{span(off)} {'ahead of' if observed.skew > 0 else 'behind'}"
    detail = f"The clock of this machine is {how} that of the store, "
    if off < FAIL_SECONDS and not observed.too_skewed:
        detail += "which refuses requests at 15 min."
        return Finding(name, title, "warning", detail, SET_CLOCK)
    detail += "which refuses requests for that."
    return Finding(name, title, "failed", detail, SET_CLOCK, CONFIGURATION)


def judge_region(observed: Observed, asked: str | None, bucket: str, *, aws: bool) -> Finding:
    """Whether requests go to the bucket's own region.

    botocore follows a bucket to its region, and the daemons that mount it may not. Stores other
    than AWS (``aws`` is False) call themselves what they like, and count only if they redirect.
    """
    name, title = "region", "region"
    right = observed.region
    if right and asked and right != asked and (aws or observed.redirected):
        return Finding(
            name,
            title,
            "failed",
            f"The bucket {bucket} is in region {right}, and the requests are for {asked}.",
            f"Name its region: --region {right}",
            CONFIGURATION,
        )
    if right:
        how = "" if asked else f"; none is set, so --region {right} would save a detour"
        return Finding(name, title, "ok", f"{right}{how}")
    return Finding(name, title, "ok", f"{asked or 'none set'}; the store does not tell its own")
