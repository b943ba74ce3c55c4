"""What a save asks of a bucket, each thing tried below a prefix that is thrown away."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mountkit.doctor.findings import Finding
from mountkit.doctor.s3 import credentials as credential
from mountkit.doctor.s3 import rights
from mountkit.doctor.s3.observed import Observed, judge_clock, judge_region
from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    PermissionDeniedError,
)
from mountkit.linux.unanswered import within
from mountkit.store.s3 import error_codes, errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.store.s3.store import S3Store

#: In the order of the report.
TITLES = {
    "credentials": "credentials",
    "bucket": "bucket",
    "clock": "clock",
    "region": "region",
    **rights.TITLES,
}


def examine(store: S3Store, name: str, seconds: float) -> tuple[Finding, ...]:
    """Try the bucket, in at most ``seconds`` whatever the store does or does not do.

    ``store``: Where checkpoints will go. To be used by nobody else: its answers are listened to.
    ``name``: The directory that everything is written to, and that does not exist yet.
    """
    trial = _Trial(store, name)
    try:
        within(seconds, trial.run)
    except TimeoutError:
        trial.give_up(seconds)
    return trial.report()


class _StopError(Exception):
    """Nothing that is still to be tried could work."""


class _Trial:
    """One look at a bucket. ``doing`` is the name of what is being looked at."""

    def __init__(self, store: S3Store, name: str) -> None:
        self._store = store
        self._rights = rights.Rights(store, name)
        self._observed = Observed()
        self._found: dict[str, Finding] = {}
        self._doing = "credentials"
        self._why_not = ""

    def run(self) -> None:
        try:
            self._credentials()
            self._bucket()
            self._each_right()
        except _StopError:
            pass
        finally:
            self._doing = "leftover"
            left = self._rights.clean_up()
            if left:
                self._note(leftover(left))

    def give_up(self, seconds: float) -> None:
        """The time is over; the thread may still be at it."""
        doing, store = self._doing, self._store
        endpoint = store.options.endpoint_url
        at = f" at {errors.safe_url(endpoint)}" if endpoint else ""
        name = "bucket" if doing == "credentials" else doing
        error = MountUnavailableError(
            f"The store{at} gave no answer in {seconds:g} s ({TITLES[doing]}).",
            hint="Check the network, the proxy settings and --endpoint-url",
        )
        self._note(Finding.of(name, TITLES[name], error))
        self._why_not = "the store gives no answer"
        if self._rights.written and doing != "leftover":
            self._note(leftover(self._rights.written))

    def report(self) -> tuple[Finding, ...]:
        """What was found, in order; what was not looked at is there too."""
        found = dict(self._found)
        why = f"Not tried: {self._why_not}." if self._why_not else "Not tried."
        skipped = {
            name: Finding(name, title, "skipped", why)
            for name, title in TITLES.items()
            if name not in found and name != "leftover"
        }
        found.update(skipped)
        return tuple(found[name] for name in TITLES if name in found)

    def _note(self, finding: Finding) -> None:
        self._found[finding.name] = finding

    def _fatal(self, name: str, error: MountkitError) -> _StopError:
        # Whoever asked the doctor asks the doctor again.
        hint = error.hint.replace("mountkit latest", "mountkit doctor")
        self._note(Finding.of(name, TITLES[name], error, hint=hint))
        self._why_not = f"see {TITLES[name]}"
        return _StopError()

    def _credentials(self) -> None:
        """Find out what may be told of the credentials; fetching them may take a request."""
        self._doing = "credentials"
        store = self._store
        try:
            with store.translated("reach"):
                found = store.credentials()
                frozen = found.get_frozen_credentials()
        except MountkitError as error:
            raise self._fatal("credentials", error) from error
        known = credential.Credentials(
            method=found.method or "unknown",
            temporary=bool(frozen.token),
            # There is no public way to ask, and not all kinds of credentials have it.
            expires=getattr(found, "_expiry_time", None),
        )
        self._note(credential.judge(known, datetime.now(UTC)))

    def _bucket(self) -> None:
        """The first request, which shows whether the bucket can be reached at all."""
        self._doing = "bucket"
        store, source = self._store, self._store.source
        refused: MountkitError | None = None
        try:
            with store.translated("list"):
                store.client().meta.events.register("response-received.s3", self._observed.note)
                began = time.monotonic()
                self._rights.list()
        except MountkitError as error:
            refused = error
        except RecursionError as error:
            # botocore follows a redirection that does not say where to, again and again.
            lost = ConfigurationError(
                f"The bucket {source.bucket} is in another region than the requests are for, and "
                "the store does not say in which.",
                hint=f"Find it: aws s3api get-bucket-location --bucket {source.bucket}",
            )
            raise self._fatal("region", lost) from error
        finally:
            self._note(judge_clock(self._observed))
        region = judge_region(
            self._observed,
            store.session().get_config_variable("region"),
            source.bucket,
            aws=not store.options.endpoint_url,
        )
        if refused is not None and not _forbidden(refused):
            raise self._unusable(refused, region)
        took = (time.monotonic() - began) * 1000
        detail = f"{source.url} answers in {took:.0f} ms"
        self._note(Finding("bucket", TITLES["bucket"], "ok", detail))
        self._note(region)
        if region.status == "failed":
            self._why_not = "see region"
            raise _StopError
        self._note(self._rights.listed(refused))

    def _unusable(self, error: MountkitError, region: Finding) -> _StopError:
        """Which of the findings an answer belongs to that bars everything else."""
        code = errors.error_code(error.__cause__)
        if code in error_codes.CLOCK:
            # Noted already, and with by how much it is wrong.
            self._why_not = "see clock"
            return _StopError()
        if region.status == "failed":
            self._note(region)
            self._why_not = "see region"
            return _StopError()
        if code in error_codes.REGION:
            return self._fatal("region", error)
        refused = isinstance(error, PermissionDeniedError)
        return self._fatal("credentials" if refused else "bucket", error)

    def _each_right(self) -> None:
        steps: dict[str, Callable[[], Finding]] = {
            "put": self._rights.put,
            "get": self._rights.get,
            "checksum": self._rights.checksum,
            "conditions": self._rights.conditions,
            "lease": self._rights.lease,
            "abort": self._rights.abort,
            "delete": self._rights.delete,
        }
        for name, step in steps.items():
            self._doing = name
            self._note(step())


def _forbidden(error: MountkitError) -> bool:
    """Whether the store knows the credentials, and does not allow this one thing."""
    code = errors.error_code(error.__cause__)
    fetched = isinstance(error, PermissionDeniedError) and bool(code)
    return fetched and code not in error_codes.REFUSED_CREDENTIALS


def leftover(urls: tuple[str, ...]) -> Finding:
    """What could not be deleted, by name."""
    return Finding(
        "leftover",
        TITLES["leftover"],
        "warning",
        f"Left behind in the bucket: {', '.join(urls)}",
        f"Delete it: aws s3 rm --recursive {urls[0].rpartition('/')[0]}",
    )
