"""Saliency maps as files, beside the predictions."""

import gzip
from pathlib import Path
from urllib.parse import quote

import nibabel as nib

from pipeline.domain import Scan, ScanError
from pipeline.explanation.gradcam import Way, saliency, way_of
from pipeline.explanation.trust import map_note, map_trust, verdict
from pipeline.files import replacing
from pipeline.model.package import Model
from pipeline.scans.find import read_volume


def write_maps(model: Model, scan: Scan, folder: Path, way: Way | None = None) -> tuple[str, ...]:
    """Write `<scan_id>_<finding>.nii.gz` for each finding, 0 to 1 on the scan's own grid; warnings, if it can't be.

    The header says how it was made and whether the model's maps passed their checks.

    The scan is read once more here, after a child process has shown that this is safe: its volume is much larger
    than its model input, and only one at a time is held.
    """
    try:
        volume = read_volume(scan, model.read_rules)
    except ScanError:  # it was there a moment ago
        return ("no_saliency",)
    way = way or way_of(model)
    trusted, _ = verdict(map_trust(model.folder), way.method, way.layer)
    for finding in model.findings:
        try:
            heat = saliency(model, volume, finding, way)
        except ScanError:  # it takes more memory than the answer did
            return ("no_saliency",)
        picture = nib.Nifti1Image(heat, volume.affine)
        picture.header.set_xyzt_units("mm")
        picture.header["descrip"] = map_note(trusted, way.method, way.layer).encode()[:79]
        with replacing(folder / map_name(scan.scan_id, finding)) as temporary:
            temporary.write_bytes(gzip.compress(picture.to_bytes(), compresslevel=1, mtime=0))
    return ()


def map_name(scan_id: str, finding: str) -> str:
    """The file name of a map; characters of a finding that a file name can't hold are percent-encoded."""
    return f"{scan_id}_{quote(finding, safe=' =+,()')}.nii.gz"
