"""A scan's result as DICOM objects, beside the table: a structured report and a picture of the key slice."""

from pathlib import Path

from pipeline import __version__
from pipeline.domain import Prediction, Scan, ScanError
from pipeline.explanation.gradcam import saliency
from pipeline.files import write_bytes
from pipeline.model.package import Model
from pipeline.scans.encoding import encoded
from pipeline.scans.find import read_volume

FOLDER = "dicom"
"""In OUT: a folder a scan."""
REPORT, PICTURE = "sr.dcm", "sc.dcm"


def write_dicom(model: Model, scan: Scan, prediction: Prediction, folder: Path) -> tuple[str, ...]:
    """Write `<scan_id>/sr.dcm` and `sc.dcm`; warnings, where they can't be.

    A scan that is no DICOM belongs to no study, so that nothing can be written: `no_dicom_source`. A source whose
    headers no valid object can be made from gives `no_dicom_result`. The same scan, model and version of this software
    give objects of the same UIDs, so that a PACS keeps one of each.
    """
    from pipeline.results.dicom_overlay import (
        captions,
        overlay_picture,
        secondary_capture,
        slice_axis,
    )
    from pipeline.results.dicom_source import Author, ranked, read_source
    from pipeline.results.dicom_sr import structured_report
    from pipeline.results.heat import key_slice, place_of

    if scan.kind != "dicom":
        return ("no_dicom_source",)
    author = Author(model.name, model.model_id, __version__)
    points = model.operating_points
    try:
        source = read_source(scan)
        report = encoded(structured_report(source, prediction, points, author), "the report")
        volume = read_volume(scan, model.read_rules)
        finding = ranked(prediction)[0]
        heat, axis = saliency(model, volume, finding), slice_axis(volume)
        index = key_slice(heat, axis)
        window = model.preprocess.window if model.preprocess.intensity == "window" else None
        lines = captions(prediction, points, finding, place_of(heat, axis, index))
        picture = overlay_picture(volume, heat, window, index, lines)
        capture = encoded(secondary_capture(source, picture, volume, index, author), "the picture")
    except ScanError:
        return ("no_dicom_result",)
    write_bytes(folder / scan.scan_id / REPORT, report)
    write_bytes(folder / scan.scan_id / PICTURE, capture)
    return ()
