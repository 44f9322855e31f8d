"""A C-STORE server: what other systems push lands as files in a folder, each whole or not at all."""

import logging
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pydicom

from pipeline.domain import ScanError, UsageError
from pipeline.files import make_folder, write_bytes
from pipeline.scans.boundary import refusing
from pipeline.scans.deflated import check_deflated
from pipeline.scans.pacs_query import checked_uid, opaque

if TYPE_CHECKING:
    from pynetdicom.transport import ThreadedAssociationServer

SUCCESS, OUT_OF_RESOURCES, MISMATCH, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
"""Answers to C-STORE (PS3.4 table B.2-1)."""

MAX_ASSOCIATIONS = 10
TIMEOUT_S = 60
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass
class Receiver:
    """A server that stores what it is sent below a folder, as <study>/<series>/<instance>.dcm with opaque names.

    Attributes:
        aet: Its AE title; who calls it by another one is refused.
        folder: Where files go.
        callers: AE titles that may send; empty: any.
        min_free_bytes: Below this much room on the disk nothing is taken.
        received: Files written so far.
        refused: Answer other than success -> how often.
    """

    aet: str
    folder: Path
    callers: Sequence[str] = ()
    min_free_bytes: int = 2**30
    received: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    _server: "ThreadedAssociationServer | None" = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def start(self, host: str, port: int) -> Self:
        """Listen; port 0 takes a free one.

        Raises:
            UsageError: If an AE title, the address or the folder can't be used, or the libraries are missing.
        """
        for title in (self.aet, *self.callers):
            if not (0 < len(title.strip()) <= 16 and title.isascii() and title.isprintable() and "\\" not in title):
                raise UsageError(f"AE title {title!r}: expected 1 to 16 printable ASCII characters without backslash")
        try:
            from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
            from pynetdicom.sop_class import Verification
        except ImportError:
            raise UsageError("receiving needs further packages: pip install 'scanline[pacs]'") from None
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # it writes headers, and so patients
        make_folder(self.folder)
        entity = AE(ae_title=self.aet)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self.callers)
        entity.maximum_associations = MAX_ASSOCIATIONS
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
        try:
            self._server = entity.start_server((host, port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        except OSError as error:
            raise UsageError(f"can't listen on {host} port {port} ({error.strerror}); choose another --port") from None
        return self

    @property
    def port(self) -> int:
        """Where it listens; 0 before it does."""
        return int(self._server.socket.getsockname()[1]) if self._server else 0

    def stop(self) -> None:
        """End it, and abort the associations of those who still send: they know that they have got no answer.

        What is being written is finished first, never half a file.
        """
        if self._server:
            server, self._server = self._server, None
            server.shutdown()
            for link in server.ae.active_associations:
                link.abort()
                link.join(TIMEOUT_S)

    def _store(self, event: Any) -> int:
        """The answer to one C-STORE request."""
        status = self._written(event)
        with self._lock:
            if status == SUCCESS:
                self.received += 1
            else:
                self.refused[status] = self.refused.get(status, 0) + 1
        return status

    def _written(self, event: Any) -> int:
        try:
            with refusing("the instance"):
                encoded = event.encoded_dataset()
                file = BytesIO(encoded)
                check_deflated(file)
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(UIDS))
                study, series, instance = (checked_uid(header.get(name)) for name in UIDS)
                announced = checked_uid(event.request.AffectedSOPInstanceUID)
        except ScanError:
            return NOT_UNDERSTOOD
        if instance != announced:
            return MISMATCH
        path = self.folder / opaque(study) / opaque(series) / f"{opaque(instance)}.dcm"
        try:
            if shutil.disk_usage(self.folder).free < self.min_free_bytes + len(encoded):
                return OUT_OF_RESOURCES
            write_bytes(path, encoded)
        except (OSError, UsageError):
            return OUT_OF_RESOURCES
        return SUCCESS
