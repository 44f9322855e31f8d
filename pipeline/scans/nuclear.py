"""Reconstructed slices of nuclear medicine (SPECT): many frames whose places follow from the first."""

import numpy as np

from pipeline.domain import Reason, ScanError
from pipeline.scans.enhanced import Frame
from pipeline.scans.geometry import slice_normal
from pipeline.scans.headers import Header, numbers_in
from pipeline.scans.instances import Plane

NM_STORAGE = "1.2.840.10008.5.1.4.1.1.20"

EXTRA = ("DetectorInformationSequence", "SliceVector", "EnergyWindowVector", "TimeSlotVector", "RRIntervalVector")
"""What is read of the header besides `keywords.KEYWORDS`."""


def is_tomogram(header: Header) -> bool:
    """Whether a nuclear medicine file holds reconstructed slices, gated or not (PS3.3 C.8.4.9.1.4)."""
    return header.text("SOPClassUID") == NM_STORAGE and bool({"RECON TOMO", "RECON GATED TOMO"} & {*header.image_type})


def tomogram_frames(header: Header) -> list[Frame]:
    """The frames of a tomogram.

    Slices are stacked from the first one along the normal (row direction x column direction) by
    SpacingBetweenSlices, against it where that is negative (PS3.3 C.8.4.15).

    Args:
        header: Read with `EXTRA`.

    Raises:
        ScanError: no_geometry, no_spacing; malformed, if the frames are not as many as announced.
    """
    detectors = header.items("DetectorInformationSequence")
    position = numbers_in(detectors[0], "ImagePositionPatient") if detectors else ()
    orientation = numbers_in(detectors[0], "ImageOrientationPatient") if detectors else ()
    if len(position) != 3 or len(orientation) != 6:
        raise ScanError(Reason.NO_GEOMETRY, "the tomogram's DetectorInformationSequence has no position or orientation")
    distance, spacing = header.number("SpacingBetweenSlices"), header.numbers("PixelSpacing")
    if not distance or len(spacing) != 2:
        raise ScanError(Reason.NO_SPACING, "the tomogram needs SpacingBetweenSlices and PixelSpacing")
    slices = header.numbers("SliceVector") or tuple(float(one) for one in range(1, header.frames + 1))
    if len(slices) != header.frames:
        raise ScanError(Reason.MALFORMED, f"frames announced: {header.frames}, described: {len(slices)}")
    normal = slice_normal(orientation) * distance
    vectors = {name: header.numbers(f"{name}Vector") for name in ("EnergyWindow", "TimeSlot", "RRInterval")}
    frames = []
    for index, number in enumerate(slices):
        value = {name: vector[index] if index < len(vector) else None for name, vector in vectors.items()}
        plane = Plane(
            orientation=orientation,
            position=tuple((np.array(position) + normal * (number - slices[0])).tolist()),
            spacing=spacing,
            size=(header.whole("Rows"), header.whole("Columns")),
            traits=(("energy", "" if value["EnergyWindow"] is None else f"{value['EnergyWindow']:g}"),),
            moments=(("interval", value["RRInterval"]), ("phase", value["TimeSlot"])),
            frame=index,
        )
        words = header.text("RescaleSlope"), header.text("RescaleIntercept")
        frames.append(Frame(plane, words, header.text("RescaleType").upper(), header.number("SliceThickness") or 0.0))
    return frames
