"""A PACS over DICOMweb: find studies (QIDO-RS), retrieve series whole or not at all (WADO-RS), store (STOW-RS)."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pydicom
from pydicom.dataset import Dataset

from pipeline.console import count
from pipeline.domain import Reason, ScanError, UsageError
from pipeline.files import write_bytes
from pipeline.scans.boundary import refusing
from pipeline.scans.encoding import encoded
from pipeline.scans.pacs_query import NOT_IMAGES, Query, Series, Study, checked_uid, http_url, matches, opaque
from pipeline.scans.values import number_in, text_in

__all__ = ["Pacs", "Query", "Series", "Study"]

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient

    from pipeline.scans.pacs_session import GuardedSession, Limits

PAGE = 500
"""Results that are asked for at once."""
MAX_RESULTS = 1_000_000
PARTIAL = ".partial"
"""Folder of what is under way: hidden, so that no search takes it for a scan."""
AS_STORED = (("application/dicom", "*"),)
"""Instances as the PACS holds them, in whatever transfer syntax."""


@dataclass(frozen=True)
class Pacs:
    """A DICOMweb server.

    Attributes:
        url: http(s) address of its services.
        limits: What it is granted.
        beat: Called before each request and with each piece of an answer; what it raises ends what is under way.
    """

    url: str
    limits: "Limits"
    beat: Callable[[], None] = lambda: None

    @classmethod
    def at(cls, address: str, limits: "Limits | None" = None, beat: Callable[[], None] = lambda: None) -> "Pacs":
        """The server at dicomweb://host:port/path (http), or dicomwebs://, dicomweb+https:// (https).

        Raises:
            UsageError: If it is no such address, holds credentials, or DICOMweb's libraries are missing.
        """
        try:
            import dicomweb_client  # noqa: F401 - whether it is there

            from pipeline.scans.pacs_session import Limits
        except ImportError:
            raise UsageError("DICOMweb needs further packages: pip install 'scanline[pacs]'") from None
        return cls(http_url(address), limits or Limits(), beat)

    @property
    def is_open(self) -> bool:
        """Whether what is sent can be read on the way: plain http beyond this machine."""
        return self.url.startswith("http:") and not re.match(r"http://(localhost|127\.|\[::1\])", self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def list_studies(self, query: Query) -> list[Study]:
        """All studies that match, asked for page by page.

        Raises:
            ScanError: pacs_*.
        """
        found = self._pages(self._client.search_for_studies, "StudyInstanceUID", search_filters=query.of_study)
        studies = [
            Study(
                study_uid=text_in(one, "StudyInstanceUID"),
                date=text_in(one, "StudyDate"),
                modalities=tuple(filter(None, text_in(one, "ModalitiesInStudy").split("\\"))),
                description=text_in(one, "StudyDescription"),
                patient_id=text_in(one, "PatientID"),
                patient_name=text_in(one, "PatientName"),
                accession_number=text_in(one, "AccessionNumber"),
                n_instances=_number(one, "NumberOfStudyRelatedInstances"),
            )
            for one in found
        ]
        return [study for study in studies if matches(query.of_study.get("StudyDate", ""), study.date)]

    def list_series(self, study: Study, query: Query) -> list[Series]:
        """The series of a study that match and may hold scans.

        Raises:
            ScanError: pacs_*.
        """
        search = self._client.search_for_series
        found = self._pages(
            search, "SeriesInstanceUID", study_instance_uid=study.study_uid, search_filters=query.of_series
        )
        series = [
            Series(
                study_uid=study.study_uid,
                series_uid=text_in(one, "SeriesInstanceUID"),
                modality=text_in(one, "Modality"),
                body_part=text_in(one, "BodyPartExamined"),
                description=text_in(one, "SeriesDescription"),
                n_instances=_number(one, "NumberOfSeriesRelatedInstances"),
            )
            for one in found
        ]
        wanted = query.of_series.get("Modality", "")
        return [one for one in series if one.modality not in NOT_IMAGES and matches(wanted, one.modality)]

    def retrieve(self, series: Series, folder: Path) -> Path:
        """The folder of a series, complete: every instance that the PACS lists, and no other.

        What was retrieved before stays; a connection that drops is taken up again where it ended.

        Raises:
            ScanError: pacs_*, malformed, too_large; then nothing of the series is kept.
            OSError: If the disk is full.
        """
        expected = self._instances(series)
        target = folder / opaque(series.study_uid) / series.name
        if target.is_dir() and {path.name for path in target.iterdir()} == {f"{opaque(uid)}.dcm" for uid in expected}:
            return target
        partial = folder / PARTIAL / series.name
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self._fill(partial, series, expected)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target

    def store(self, files: Sequence[Path]) -> None:
        """Send objects to the PACS.

        Raises:
            ScanError: pacs_*; pacs_denied if it does not take all of them.
        """
        with refusing("the object"):
            objects = [pydicom.dcmread(path) for path in files]
        with _understood():
            answer = self._sender.store_instances(objects)
        if refused := len(answer.get("FailedSOPSequence") or ()):
            raise ScanError(Reason.PACS_DENIED, f"the PACS has refused {refused} of {count(len(objects), 'object')}")
        stored = {str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence") or ()}
        if missing := {str(one.SOPInstanceUID) for one in objects} - stored:
            raise ScanError(
                Reason.PACS_INCOMPLETE, f"the PACS does not confirm {len(missing)} of {count(len(objects), 'object')}"
            )

    @cached_property
    def _session(self) -> "GuardedSession":
        from pipeline.scans.pacs_session import GuardedSession

        session = GuardedSession(self.url, self.limits, self.beat)
        user, token = os.environ.get("SCANLINE_PACS_USER"), os.environ.get("SCANLINE_PACS_TOKEN")
        if user:
            session.auth = (user, os.environ.get("SCANLINE_PACS_PASSWORD", ""))
        elif token:
            session.authorize(token)
        return session

    @cached_property
    def _client(self) -> "DICOMwebClient":
        return self._new_client(chunk_size=2**18)

    @cached_property
    def _sender(self) -> "DICOMwebClient":
        return self._new_client(chunk_size=2**31)  # in one piece: a body in pieces can't be sent again

    def _new_client(self, chunk_size: int) -> "DICOMwebClient":
        from pipeline.scans.pacs_client import GuardedClient

        limits = self.limits
        client = GuardedClient(
            self.url,
            session=self._session,
            timeout=(limits.connect_s, limits.silence_s),
            chunk_size=chunk_size,
            permissive_uid=True,
        )
        client.set_http_retry_params(retry=False)  # the session does that, and as long as it is asked to
        return client

    def _pages(self, search: Callable[..., list[dict[str, Any]]], key: str, **options: object) -> list[Dataset]:
        """All results of a search, each once, whatever the size of the server's pages.

        Raises:
            ScanError: malformed, if a result has no UID.
        """
        found: dict[str, Dataset] = {}
        asked = 0
        while len(found) < MAX_RESULTS:
            with _understood():
                page = [Dataset.from_json(one) for one in search(limit=PAGE, offset=asked, **options)]
            new = {checked_uid(one.get(key)): one for one in page}
            if not new.keys() - found.keys():
                return list(found.values())
            found |= new
            asked += len(page)
        raise ScanError(Reason.TOO_LARGE, f"the PACS has more than {MAX_RESULTS} results; narrow the query")

    def _instances(self, series: Series) -> list[str]:
        """SOPInstanceUIDs of a series, all of them by the PACS's own count."""
        found = self._pages(
            self._client.search_for_instances,
            "SOPInstanceUID",
            study_instance_uid=series.study_uid,
            series_instance_uid=series.series_uid,
        )
        if not found or len(found) < series.n_instances:
            raise ScanError(
                Reason.PACS_INCOMPLETE,
                f"the PACS lists {count(len(found), 'instance')} and counts {series.n_instances}",
            )
        return [str(one.SOPInstanceUID) for one in found]

    def _fill(self, folder: Path, series: Series, expected: Sequence[str]) -> None:
        """Put all expected instances into the folder, in several attempts if need be."""
        from pipeline.scans.pacs_session import RETRIED

        wanted = {f"{opaque(uid)}.dcm": uid for uid in expected}
        why, short = "", False
        for attempt in range(1, self.limits.attempts + 1):
            missing = [uid for name, uid in wanted.items() if not (folder / name).exists()]
            if not missing:
                return
            if attempt > 1:
                self._session.pause(attempt - 1)
            try:
                whole = len(missing) * 2 > len(expected) and not short
                for instance in self._transfer(series, missing, whole):
                    _check_instance(instance, series, expected)
                    write_bytes(folder / f"{opaque(instance.SOPInstanceUID)}.dcm", encoded(instance, "the instance"))
                short = True  # where some are missing now, the PACS has left them out of a whole answer
            except ScanError as error:
                lost = short and error.reason is Reason.PACS_MALFORMED  # listed, and can't be had by itself, either
                if not lost and (error.reason not in RETRIED or attempt == self.limits.attempts):
                    raise
                why = f" ({error.detail})"
        left = sum(not (folder / name).exists() for name in wanted)
        if left:
            raise ScanError(
                Reason.PACS_INCOMPLETE, f"{len(wanted) - left} of {count(len(wanted), 'instance')} came{why}"
            )

    def _transfer(self, series: Series, missing: Sequence[str], whole: bool) -> Iterator[Dataset]:
        """Instances as they come: the whole series at once, or only those that are missing."""
        place = {"study_instance_uid": series.study_uid, "series_instance_uid": series.series_uid}
        with _understood():
            if whole:
                for instance in self._client.iter_series(**place, media_types=AS_STORED):
                    self._session.part_done()
                    yield instance
                return
            for uid in missing:
                yield self._client.retrieve_instance(**place, sop_instance_uid=uid, media_types=AS_STORED)


def _check_instance(instance: Dataset, series: Series, expected: Sequence[str]) -> None:
    """Refuse what was not asked for.

    Raises:
        ScanError: pacs_wrong_instance, malformed.
    """
    for keyword, wanted in (("StudyInstanceUID", series.study_uid), ("SeriesInstanceUID", series.series_uid)):
        if str(instance.get(keyword) or "") != wanted:
            raise ScanError(Reason.PACS_WRONG_INSTANCE, f"the PACS sent an instance whose {keyword} is another one")
    if checked_uid(instance.get("SOPInstanceUID")) not in expected:
        raise ScanError(Reason.PACS_WRONG_INSTANCE, "the PACS sent an instance that it does not list for the series")


def _understood() -> AbstractContextManager[None]:
    """Turn what dicomweb-client raises on an answer that it can't read into a ScanError."""
    from pipeline.scans.pacs_session import understood

    return understood()


def _number(result: Dataset, keyword: str) -> int:
    return int(number_in(result, keyword) or 0)
