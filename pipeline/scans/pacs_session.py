"""HTTP to a PACS under limits: bounded waits and sizes, no foreign redirects, no address or credential in a message."""

import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from warnings import catch_warnings, simplefilter

import requests
import urllib3
from requests import exceptions
from urllib3.util import Retry

from pipeline.domain import Reason, ScanError, UsageError
from pipeline.scans.boundary import refusing

for name in ("dicomweb_client", "urllib3", "retrying"):
    logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # they write addresses, and so queries for patients

BUSY = frozenset({408, 429, 502, 503, 504})
"""Answers after which the same request may do."""
RETRIED = frozenset({Reason.PACS_UNREACHABLE, Reason.PACS_TIMEOUT, Reason.PACS_INCOMPLETE})
PIECE = 2**18
"""Bytes that are taken from the network at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the PACS is granted.

    Attributes:
        attempts: Of each request.
        connect_s: To connect.
        silence_s: Without any byte.
        request_s: For one request with its answer.
        slow_s: After this time an answer has to come faster than `bytes_per_s` on the average.
        wait_s: Longest pause between attempts, whatever the PACS asks for.
        pause_s: First pause, where it asks for none; then doubled.
        part_bytes: Of one instance, which has to be held in memory.
        answer_bytes: Of one answer.
    """

    attempts: int = 3
    connect_s: float = 10.0
    silence_s: float = 60.0
    request_s: float = 3600.0
    slow_s: float = 60.0
    bytes_per_s: float = 1000.0
    wait_s: float = 120.0
    pause_s: float = 1.0
    part_bytes: int = 2**31
    answer_bytes: int = 2**35


class GuardedSession(requests.Session):
    """A session that holds the PACS to the limits, one request at a time.

    Credentials in netrc, and certificates in REQUESTS_CA_BUNDLE, are found as requests finds them.

    Raises:
        UsageError: If there is no such file of certificates.
    """

    def __init__(self, base_url: str, limits: Limits, beat: Callable[[], None]) -> None:
        super().__init__()
        self.limits, self._beat = limits, beat
        self._origin = _origin(base_url)
        authorities = os.environ.get("REQUESTS_CA_BUNDLE")
        if authorities and not Path(authorities).exists():
            raise UsageError("REQUESTS_CA_BUNDLE names no file; expected one of your authority's certificates (PEM)")
        self._held = 0
        self._answer: requests.Response | None = None
        self.headers["Accept-Encoding"] = "identity"

    def authorize(self, token: str) -> None:
        """Send a bearer token with every request; netrc is then not asked."""
        self.trust_env = False
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.headers["Authorization"] = f"Bearer {token}"

    def part_done(self) -> None:
        """Say that what was received so far is no longer held."""
        self._held = 0

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        """The answer, its body unread; asked for again where the PACS is busy or does not answer."""
        options["stream"] = True
        self._close_answer()
        for attempt in range(1, self.limits.attempts + 1):
            last = attempt == self.limits.attempts
            self._beat()
            try:
                with answering():
                    self._answer = response = super().request(method, url, *args, **options)
            except ScanError as error:
                if last or error.reason not in RETRIED:
                    raise
                self.pause(attempt)
                continue
            if response.status_code not in BUSY:
                break
            response.close()
            if last:
                raise ScanError(Reason.PACS_UNREACHABLE, f"the PACS is busy (HTTP {response.status_code}); try later")
            self.pause(attempt, response.headers.get("Retry-After"))
        _check_status(response.status_code)
        self._held = 0
        setattr(response, "iter_content", partial(self._body, response))  # noqa: B010 - a method of this one answer
        return response

    def close(self) -> None:
        """Close every connection."""
        self._close_answer()
        super().close()

    def _close_answer(self) -> None:
        """Give up the last answer, which a library that can't read it leaves open."""
        if self._answer is not None:
            self._answer.close()

    def pause(self, attempt: int, asked_for: str | None = None) -> None:
        """Wait before the next attempt, as long as the PACS asks for.

        Raises:
            ScanError: pacs_unreachable, if it asks for more than the limit.
        """
        told = _seconds_of(asked_for or "")
        seconds = self.limits.pause_s * 2 ** (attempt - 1) if told is None else told
        if seconds > self.limits.wait_s:
            raise ScanError(
                Reason.PACS_UNREACHABLE, f"the PACS asks to wait {seconds:.0f} s; at most {self.limits.wait_s:.0f} s"
            )
        time.sleep(seconds)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where an answer redirects to, if that is the same server.

        Raises:
            ScanError: pacs_malformed, for any other place: it would get credentials and queries.
        """
        target = super().get_redirect_target(resp)
        if target and urlsplit(target).netloc and _origin(urljoin(resp.url, target)) != self._origin:
            resp.close()
            raise ScanError(Reason.PACS_MALFORMED, "the PACS redirects to another server; that is not followed")
        return target

    def _body(self, response: requests.Response, *_: object, **__: object) -> Iterator[bytes]:
        """The pieces of an answer as they come."""
        limits, started, total, tail = self.limits, time.monotonic(), 0, b""
        with response:
            while True:
                with answering():
                    piece = response.raw.read1(PIECE, decode_content=True)
                self._beat()
                if not piece:
                    break
                total, self._held, tail = total + len(piece), self._held + len(piece), (tail + piece)[-256:]
                if total > limits.answer_bytes or self._held > limits.part_bytes:
                    raise ScanError(Reason.TOO_LARGE, f"the PACS sends more than {limits.part_bytes} bytes at once")
                elapsed = time.monotonic() - started
                too_slow = elapsed > limits.slow_s and total < elapsed * limits.bytes_per_s
                if too_slow or elapsed > limits.request_s:
                    raise ScanError(Reason.PACS_TIMEOUT, f"{total} bytes came in {elapsed:.0f} s; the PACS is too slow")
                yield piece
            _check_end(response.headers.get("Content-Type", ""), tail)


@contextmanager
def answering() -> Iterator[None]:
    """Turn what the network, or a library that reads an answer, raises into a ScanError without addresses."""
    try:
        with catch_warnings():
            simplefilter("ignore")
            yield
    except (exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        if _is_about_certificate(error):
            raise ScanError(
                Reason.PACS_DENIED,
                "the certificate of the PACS is not trusted; name your authority's file in REQUESTS_CA_BUNDLE",
            ) from None
        raise ScanError(
            Reason.PACS_UNREACHABLE, "TLS with the PACS failed: does it take https (dicomwebs://) at this port?"
        ) from None
    except (exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise ScanError(Reason.PACS_TIMEOUT, "the PACS does not answer in time") from None
    except (urllib3.exceptions.ProtocolError, exceptions.ChunkedEncodingError):
        raise ScanError(Reason.PACS_INCOMPLETE, "the connection ended before the answer did") from None
    except exceptions.ConnectionError:
        raise ScanError(
            Reason.PACS_UNREACHABLE, "no connection to the PACS: is the address right, and is it running?"
        ) from None
    except (exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise ScanError(Reason.PACS_MALFORMED, f"the PACS can't be understood ({type(error).__name__})") from None


@contextmanager
def understood() -> Iterator[None]:
    """As `answering`; what dicomweb-client or pydicom can't read of the answer is pacs_malformed."""
    try:
        with refusing("the answer of the PACS"), answering():
            yield
    except ScanError as error:
        if error.reason in (Reason.MALFORMED, Reason.NOT_DICOM, Reason.TRUNCATED):
            raise ScanError(Reason.PACS_MALFORMED, error.detail) from None
        raise


def _is_about_certificate(error: BaseException | None) -> bool:
    """Whether a certificate was refused; all else that TLS can't do may be a connection that broke."""
    causes = (*error.args, getattr(error, "reason", None), error.__context__) if error else ()
    nested = any(_is_about_certificate(one) for one in causes if isinstance(one, BaseException))
    return isinstance(error, ssl.SSLCertVerificationError) or nested


def _seconds_of(retry_after: str) -> float | None:
    """Seconds that the header asks for (RFC 9110 10.2.3); None for what is neither a number nor a date."""
    try:
        return Retry().parse_retry_after(retry_after)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):  # of a date that no calendar has, the latter
        return None


def _check_status(status: int) -> None:
    if status in (401, 403):
        raise ScanError(
            Reason.PACS_DENIED,
            f"the PACS refuses access (HTTP {status}): put credentials into ~/.netrc, or into SCANLINE_PACS_USER and "
            "SCANLINE_PACS_PASSWORD, or SCANLINE_PACS_TOKEN",
        )
    if status >= 300:
        raise ScanError(Reason.PACS_MALFORMED, f"the PACS can't answer the request (HTTP {status})")


def _check_end(content_type: str, tail: bytes) -> None:
    """Refuse a multipart answer without its last boundary (RFC 2046 5.1.1): its last part may be half an instance."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if boundary and f"--{boundary[1]}--".encode() not in tail:
        raise ScanError(Reason.PACS_INCOMPLETE, "the answer of the PACS ends before its last boundary")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
