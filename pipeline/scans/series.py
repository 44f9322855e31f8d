"""DICOM files -> Scans: copies merged, patients kept apart, localizers set aside, one Scan a volume."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

from pipeline.domain import Reason, Rejection, Scan, ScanError
from pipeline.scans.extent import UNKNOWN, extent_of
from pipeline.scans.instances import SLICE_MODALITIES, Extent, Instance, Plane
from pipeline.scans.separate import volumes_of

Fingerprint = Callable[[Path], str]
"""Gives equal texts for files with equal pixels."""

WHOLE_TRAITS = ("type", "echo", "inversion", "component")
"""What names the volumes of a series that has one file a volume, besides their order."""

IDENTITY = ("patient_id", "accession_number", "study_uid", "series_uid")
"""Whom and what files belong to, by the names of an Instance's and a Scan's fields."""


IN_PARTS = ScanError(
    Reason.AMBIGUOUS_VOLUME,
    "part of a multi-frame object that goes on in other files (ConcatenationUID); join them first",
)


@dataclass(slots=True)
class Found:
    """What a folder holds, while it is being put together."""

    scans: list[Scan] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)


def scan_id_of(*parts: str) -> str:
    """16 hex digits of the SHA-256 of the parts that are not empty, joined by "|" (file names as their raw bytes).

    * slices of a DICOM series: SeriesInstanceUID, group: "1.2.3" or "1.2.3|echo=30"
    * a DICOM file that is a picture of its own (CR, DX, MG, US, SC ...): SOPInstanceUID
    * other files: path relative to SCANS with "/", size in bytes, group: "site/scan.nii.gz|31415|t0"
    """
    text = "|".join(part for part in parts if part)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def assemble(instances: Iterable[Instance], fingerprint: Fingerprint, lost: Mapping[str, ScanError]) -> Found:
    """The Scans in DICOM files (in any order), and what was refused or set aside.

    Args:
        instances: Every image file that was found.
        fingerprint: Compares pixels; called only for files that share a SOPInstanceUID.
        lost: SeriesInstanceUID -> why one of its files was refused.
    """
    found = Found()
    series: dict[str, list[Instance]] = defaultdict(list)
    for instance in sorted(instances, key=lambda one: one.path):
        series[instance.series_uid or instance.sop_uid].append(instance)
    for uid, members in series.items():
        try:
            _assemble_series(members, fingerprint, found, lost.get(uid))
        except ScanError as error:
            found.rejections.append(_rejection(members, error))
    return found


def _assemble_series(members: list[Instance], fingerprint: Fingerprint, found: Found, lost: ScanError | None) -> None:
    if len({(one.patient_id, one.study_uid) for one in members}) > 1:
        raise ScanError(
            Reason.MIXED_PATIENTS,
            "files of one SeriesInstanceUID name different patients or studies; separate them, then try again",
        )
    members, aliases = _without_copies(members, fingerprint, found)
    parts = [one for one in members if one.is_part]
    if any(one.is_whole for one in parts):  # parts of one frame each are slices like others
        found.rejections.append(_rejection(parts, IN_PARTS))
        members = [one for one in members if not one.is_part]
    singles = [one for one in members if one.is_single]
    for single in singles:
        found.scans.append(_scan([single], aliases, "", single.sop_uid))
    wholes = [one for one in members if one.is_whole and not one.is_single]
    for name, whole in _whole_names(wholes).items():
        for volume, extent in zip(whole.volumes, whole.extents or [UNKNOWN] * len(whole.volumes), strict=True):
            found.scans.append(_scan([whole], aliases, ";".join(filter(None, (name, volume))), extent=extent))
    slices = [one for one in members if not one.is_single and not one.is_whole]
    if slices and lost:  # perhaps the first or the last slice: the others would make a volume
        error = ScanError(lost.reason, f"a file of this series is refused, and its slice missing ({lost.detail})")
        found.rejections.append(_rejection(slices, error))
    elif slices:
        _assemble_slices(slices, aliases, found, bool(wholes))


def _assemble_slices(slices: list[Instance], aliases: dict[str, list[Path]], found: Found, prefixed: bool) -> None:
    strays = [one for one in slices if one.is_localizer]
    if len(strays) == len(slices):
        strays = []  # a series of localizers
    else:
        slices = [one for one in slices if not one.is_localizer]
    if len(slices) > 1 and any(one.plane.position is None or one.plane.orientation is None for one in slices):
        raise ScanError(
            Reason.NO_GEOMETRY,
            f"{len(slices)} slices, of which some lack ImagePositionPatient or ImageOrientationPatient; "
            "their order and distance can't be known",
        )
    volumes, oriented = volumes_of(slices, _plane)
    strays += oriented
    for stray in strays:
        found.skipped.extend((path, "localizer") for path in (stray.path, *aliases[stray.sop_uid]))
    for name, volume in sorted(volumes.items(), key=_by_order):
        if len({one.frame_of_reference for one in volume} - {""}) > 1:
            raise ScanError(Reason.MIXED_GEOMETRY, "slices of one series name different frames of reference")
        label = ";".join(filter(None, ("slices" if prefixed else "", name)))
        found.scans.append(_scan(volume, aliases, label, warnings=("localizer_dropped",) if strays else ()))


def _by_order(item: tuple[str, list[Instance]]) -> tuple[tuple[int, int], list[str | int]]:
    """By acquisition and instance number, then by name with "t2" before "t10", whatever the files are called."""
    name, volume = item
    words = [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", name)]
    return min(one.order for one in volume), words


def _plane(instance: Instance) -> Plane:
    return instance.plane


def _without_copies(
    members: list[Instance], fingerprint: Fingerprint, found: Found
) -> tuple[list[Instance], dict[str, list[Path]]]:
    """One instance a SOPInstanceUID, and the paths of its copies; pictures whose copies differ are refused alone.

    Raises:
        ScanError: conflicting_slices, if copies of a slice differ; the fingerprint's own errors.
    """
    by_uid: dict[str, list[Instance]] = defaultdict(list)
    for one in members:
        by_uid[one.sop_uid].append(one)
    for uid, copies in list(by_uid.items()):
        try:
            _check_copies(copies, fingerprint)
        except ScanError as error:
            if not all(one.is_single for one in copies):
                raise
            found.rejections.append(_rejection(copies, error))
            del by_uid[uid]
    aliases = defaultdict(list, {uid: [one.path for one in copies[1:]] for uid, copies in by_uid.items()})
    return [copies[0] for copies in by_uid.values()], aliases


def _check_copies(copies: list[Instance], fingerprint: Fingerprint) -> None:
    if len(copies) < 2:
        return
    differ = ""
    if len({(one.plane.position, one.plane.orientation, one.plane.spacing) for one in copies}) > 1:
        differ = "name different places"
    elif len({fingerprint(one.path) for one in copies}) > 1:
        differ = "hold different pixels"
    if differ:
        raise ScanError(
            Reason.CONFLICTING_SLICES,
            f"{len(copies)} files share one SOPInstanceUID but {differ}; keep the right one",
        )


def _whole_names(wholes: Sequence[Instance]) -> dict[str, Instance]:
    """Files that are volumes of their own, by what tells them apart: echo or image type, then "t0", "t1", ..."""
    kinds: dict[str, list[Instance]] = defaultdict(list)
    differing = [name for name in WHOLE_TRAITS if len({dict(one.plane.traits).get(name) for one in wholes}) > 1]
    for one in wholes:
        traits = dict(one.plane.traits)
        kinds[";".join(f"{name}={traits.get(name, '')}" for name in differing)].append(one)
    return {
        ";".join(filter(None, (kind, name))): one
        for kind, members in kinds.items()
        for name, one in _in_time(members).items()
    }


def _in_time(wholes: Sequence[Instance]) -> dict[str, Instance]:
    """No name for one file, "t0", "t1", ... in their order for several; by their UID where none is known."""
    if len(wholes) == 1:
        return {"": wholes[0]}
    if len({one.order for one in wholes}) == len(wholes):
        return {f"t{i}": one for i, one in enumerate(sorted(wholes, key=lambda one: one.order))}
    return {f"file={scan_id_of(one.sop_uid)[:8]}": one for one in wholes}


def _scan(
    volume: Sequence[Instance],
    aliases: dict[str, list[Path]],
    group: str,
    sop_uid: str = "",
    warnings: tuple[str, ...] = (),
    extent: Extent | None = None,
) -> Scan:
    first = volume[0]
    n_slices, slice_spacing_mm = extent or extent_of([one.plane for one in volume])
    paths = tuple(one.path for one in volume)
    alone = len(paths) == 1
    if alone and first.plane.position is None and first.modality in SLICE_MODALITIES and not first.is_whole:
        warnings += ("no_geometry",)
    return Scan(
        scan_id=scan_id_of(sop_uid) if sop_uid else scan_id_of(first.series_uid or first.sop_uid, group),
        path=first.path if alone else Path(commonpath([path.parent for path in paths])),
        paths=paths,
        kind="dicom",
        aliases=tuple(path for one in volume for path in aliases[one.sop_uid]),
        patient_id=first.patient_id,
        accession_number=first.accession_number,
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        modality=first.modality,
        body_part=first.body_part,
        acquired=first.acquired,
        group=group,
        sex=first.sex,
        age=first.age,
        manufacturer=first.manufacturer,
        model_name=first.model_name,
        warnings=tuple(dict.fromkeys((*(code for one in volume for code in one.warnings), *warnings))),
        n_slices=n_slices,
        slice_spacing_mm=slice_spacing_mm,
        description=first.description,
        contrast_agent=first.contrast_agent,
        view=first.view,
        side=first.side,
    )


def _rejection(members: Sequence[Instance], error: ScanError) -> Rejection:
    paths = tuple(one.path for one in members)
    folder = Path(commonpath([path.parent for path in paths])) if len(paths) > 1 else paths[0]
    scan_id = scan_id_of(members[0].series_uid or members[0].sop_uid)
    said = {name: {getattr(one, name) for one in members} for name in IDENTITY}
    ids = {name: values.pop() for name, values in said.items() if len(values) == 1}
    return Rejection(folder, error.reason, error.detail, scan_id, paths, ids)
