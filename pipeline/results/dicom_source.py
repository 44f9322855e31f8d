"""What a DICOM result says of the images that it comes from: their patient, their study, their UIDs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from pipeline.domain import Affine, Prediction, Reason, Scan, ScanError
from pipeline.scans.archives import within_reach
from pipeline.scans.boundary import refusing

SCHEME = "99SCANLINE"
"""Designator of our own codes (PS3.16 section 8.2: private schemes begin with 99)."""

MANUFACTURER = "scanline (open source)"
RESEARCH_ONLY = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"

ALWAYS_THERE = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes that every object holds, empty where unknown (type 2: PS3.3 C.7.1.1, C.7.2.1)."""

OF_STUDY = ("IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription")
"""More that all objects of a study share. With another issuer, the same number is another patient's."""

KEYWORDS = (
    *ALWAYS_THERE,
    *OF_STUDY,
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("InstanceNumber", "Modality"),
    *("BodyPartExamined", "Laterality", "ImageLaterality", "PatientOrientation", "BurnedInAnnotation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames", "Rows", "Columns"),
)
"""What is read of the source images."""

VALID = {
    "StudyDate": r"\d{8}",
    "PatientBirthDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
    "PatientSex": r"[MFO]",
}
"""What the standard allows; other values of the source are left out, so that the result can be read everywhere."""


# fmt: off
UNPAIRED = frozenset({
    "ABDOMEN", "ABDOMENPELVIS", "AORTA", "BACK", "BLADDER", "BRAIN", "CERVIX", "CHEST", "CHESTABDOMEN",
    "CHESTABDPELVIS", "COCCYX", "CSPINE", "CTSPINE", "ESOPHAGUS", "FACE", "HEAD", "HEADNECK", "HEART", "ILEUM",
    "ILIUM", "JAW", "LARYNX", "LIVER", "LSPINE", "LSSPINE", "MAXILLA", "MEDIASTINUM", "MOUTH", "NECK", "NECKCHEST",
    "NOSE", "PANCREAS", "PELVIS", "PENIS", "PHARYNX", "PROSTATE", "RECTUM", "SCALP", "SKULL", "SPINE", "SPLEEN",
    "SSPINE", "STERNUM", "STOMACH", "THYMUS", "THYROID", "TLSPINE", "TONGUE", "TRACHEA", "TSPINE", "URETER",
    "URETHRA", "UTERUS", "VAGINA", "VULVA", "WHOLEBODY",
})
# fmt: on
"""Parts of the body (PS3.16 annex L) for which dciodvfy takes a side for an error; for all others it misses one."""


@dataclass(frozen=True, slots=True)
class Author:
    """What made a result.

    Attributes:
        name: The model's name.
        model_id: Name and hash of the model folder.
        version: Version of this software.
    """

    name: str
    model_id: str
    version: str


@dataclass(frozen=True)
class Source:
    """The images of one scan, headers only.

    Attributes:
        scan_id: Of the scan.
        images: One an instance, in the scan's order; each with the attributes of ALWAYS_THERE.
    """

    scan_id: str
    images: tuple[Dataset, ...]

    @property
    def first(self) -> Dataset:
        """The image that stands for all in what they share."""
        return self.images[0]

    def nearest(self, affine: Affine, axis: int, index: int) -> Dataset:
        """The image that lies nearest to a slice of the volume; the only one where there is one.

        Args:
            affine: Of the volume, voxel index to RAS+ mm.
            axis: The voxel axis across the slices.
            index: The slice.
        """
        placed = [image for image in self.images if len(image.get("ImagePositionPatient") or ()) == 3]
        if len(self.images) == 1 or not placed:
            return self.first
        corners = np.array([[float(x) for x in image.ImagePositionPatient] for image in placed]) * (-1, -1, 1)
        steps = np.linalg.inv(affine)[axis, :3] @ corners.T + np.linalg.inv(affine)[axis, 3]
        return placed[int(np.argmin(np.abs(steps - index)))]


def read_source(scan: Scan) -> Source:
    """The source images of a DICOM scan.

    Raises:
        ScanError: non_image for a scan that is not DICOM; missing_attribute, mixed_patients, malformed, io_error.
    """
    if scan.kind != "dicom":
        raise ScanError(Reason.NON_IMAGE, f"the scan is {scan.kind}, not DICOM: no study that a result could belong to")
    with refusing("the scan"), within_reach(scan.paths) as paths:
        images = tuple(
            pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS), force=True) for path in paths
        )
        for image in images:
            _make_valid(image)
    if len({(str(image.PatientID), str(image.StudyInstanceUID)) for image in images}) > 1:
        raise ScanError(Reason.MIXED_PATIENTS, "the images name several patients or studies; no result can hold both")
    return Source(scan.scan_id, images)


def derived_uid(what: str, source: Source, author: Author) -> str:
    """The same UID on every machine for one kind of result, scan, model and version of this software.

    A second run then replaces its first results and does not multiply them.
    """
    return uid_of("/".join((what, source.scan_id, author.model_id, author.version)))


def uid_of(text: str) -> str:
    """The UID of a text: "2.25." and a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid5(NAMESPACE_OID, text).int}"


def own_attributes(kind: str, title: str, series_number: int, source: Source, author: Author) -> dict[str, Any]:
    """What a result says of itself, by the names that highdicom's constructors give it.

    Args:
        kind: "SR" or "SC"; its UIDs come from it.
        title: Begins the description of its series.
        series_number: Of its series in the study.
    """
    return {
        "series_instance_uid": derived_uid(f"{kind} series", source, author),
        "series_number": series_number,
        "series_description": f"{title} - {RESEARCH_ONLY}"[:64],
        "sop_instance_uid": derived_uid(kind, source, author),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": author.name[:64],
        "software_versions": author.version,
        "specific_character_set": "ISO_IR 192",
        "transfer_syntax_uid": ExplicitVRLittleEndian,
    }


def complete(result: Dataset, source: Source) -> None:
    """Fill in what highdicom leaves out of a picture: more on patient and study, which part it shows, and its side.

    Laterality (type 2C, PS3.3 C.7.3.1): absent for a part without sides, empty where the side is not known.
    """
    part, laterality, side = (
        str(source.first.get(name) or "").strip() for name in ("BodyPartExamined", "Laterality", "ImageLaterality")
    )
    for keyword in OF_STUDY:
        if source.first.get(keyword):
            result[keyword] = source.first[keyword]
    if part:
        result.BodyPartExamined = part
    if part in UNPAIRED:
        return
    if side in ("L", "R", "B", "U"):
        result.ImageLaterality = side
    else:
        result.Laterality = laterality if laterality in ("L", "R") else ""


def contributor(author: Author) -> Sequence[hd.ContributingEquipment]:
    """This software and the model, for the result's list of contributing equipment."""
    return [
        hd.ContributingEquipment(
            manufacturer=MANUFACTURER,
            purpose_of_reference=hd.sr.CodedConcept("109102", "DCM", "Processing Equipment"),
            manufacturer_model_name=author.name[:64],
            software_versions=author.version,
            contribution_description=RESEARCH_ONLY,
        )
    ]


def ranked(prediction: Prediction) -> list[str]:
    """The findings, positive ones first, then by probability."""
    p = prediction.probabilities
    return sorted(p, key=lambda finding: (not prediction.positive.get(finding), -p[finding]))


def _make_valid(image: Dataset) -> None:
    """Put in what every object must have, and take out what no object may have."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = str(image.get(keyword) or "")
        if not UID(value).is_valid:
            what = "is no UID" if value else "is missing"
            raise ScanError(Reason.MISSING_ATTRIBUTE, f"{keyword} {what}; a result could not be linked to this scan")
    for keyword in ALWAYS_THERE:
        if not image.get(keyword):
            setattr(image, keyword, "")
    image.Modality = image.get("Modality") or "OT"
    for keyword, pattern in VALID.items():
        if not re.fullmatch(pattern, str(image.get(keyword))):
            setattr(image, keyword, "")
