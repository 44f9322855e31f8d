"""What was found, in one sentence."""

from pathlib import Path

from pipeline.domain import Reason, Rejection, Scan
from pipeline.scans.find import Survey
from pipeline.scans.summary import summary_of

ROOT = Path("/scans")


def scan(name: str, modality: str = "", series: str = "", kind: str = "dicom", group: str = "") -> Scan:
    return Scan(name + group, ROOT / name, (ROOT / name,), kind, series_uid=series, modality=modality, group=group)


def test_a_mixed_folder():
    scans = [scan(f"{n}", "CT", f"1.{n}") for n in range(1204)]
    scans += [scan("mr", "MR", "2.1", group=f"echo={n}") for n in range(3)]
    scans += [scan(f"x{n}", m, "3.1") for n, m in enumerate(["CR", "DX", "MG"])]
    scans += [scan("us", "US", "4.1"), scan("a.nii", kind="nifti", group="t0"), scan("a.nii", kind="nifti", group="t1")]
    scans += [scan("p.png", kind="image"), scan("q.png", kind="image"), scan("odd", "", "5.1")]
    reasons = [Reason.MISSING_SLICES, Reason.TRUNCATED, Reason.MISSING_SLICES]
    refused = [Rejection(ROOT, reason, "") for reason in reasons]
    assert summary_of(Survey(ROOT, scans, refused, [(ROOT, "no scan")] * 2000)) == (
        "1,204 CT series, 3 radiographs, 2 pictures, 1 DICOM series, 1 MR series (3 volumes), "
        "1 NIfTI file (2 volumes), 1 US image; refused: 2 missing_slices, 1 truncated; 2,000 files are no scans"
    )


def test_an_empty_folder():
    assert summary_of(Survey(ROOT, [], [], [])) == "no scans"
    assert summary_of(Survey(ROOT, [], [], [(ROOT, "no scan")])) == "no scans; 1 file is no scan"
