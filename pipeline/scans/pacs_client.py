"""dicomweb-client, with a look at each instance before pydicom reads it: a deflated one is inflated whole there."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient

from pipeline.scans.deflated import check_deflated

MAGIC = slice(128, 132)
"""Where a DICOM file says that it is one (PS3.10 7.1)."""


class GuardedClient(DICOMwebClient):  # type: ignore[misc]  # the library has no types
    """A client that refuses instances which grow out of all proportion.

    Raises:
        ScanError: too_large, from whatever retrieves.
    """

    def _decode_multipart_message(self, response: requests.Response, stream: bool) -> Iterator[bytes]:
        """The parts of an answer."""
        for part in super()._decode_multipart_message(response, stream):
            _check(part)
            yield part

    def _http_get(self, *args: Any, **options: Any) -> requests.Response:
        """An answer; the library takes one that is no multipart, but begins like DICOM, for a single instance."""
        response: requests.Response = super()._http_get(*args, **options)
        if response.headers.get("Content-Type", "").startswith("application/dicom"):
            _check(response.content)
        return response


def _check(content: bytes) -> None:
    if content[MAGIC] == b"DICM":
        check_deflated(BytesIO(content))
