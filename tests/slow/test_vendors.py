"""Scans of all vendors in the dcm_qa folders beside the other data sets, against an independent converter.

The dcm_qa collections (github.com/neurolabusc) are looked for at SCAN_DATASETS/dcm_qa*; any number may be there.
"""

import os
from pathlib import Path

import pytest

from pipeline.scans.find import read_volume, survey
from tests.scans.dcm2niix import references
from tests.scans.test_reference import DATASETS

pytestmark = [pytest.mark.slow, pytest.mark.datasets]

EXCEPTIONS = {
    "dcm_qa_ts": "one scan in nine transfer syntaxes: copies of each other; see test_reference",
    "dcm_qa_polar": "dcm2niix turns pictures of the opposite phase encoding, which the standard does not know of",
    "dcm_qa_12bit": "three files with one SOPInstanceUID and different pixels: refused",
    "dcm_qa_frag": "uneven positions: dcm2niix takes the first step for all; ours is that from the first to the last",
}


def leaf_folders():
    """Folders that hold files and no folders, below each collection's inputs."""
    for collection in sorted(DATASETS.glob("dcm_qa*")):
        for folder, below, files in os.walk(collection):
            path = Path(folder)
            if files and not below and "Ref" not in path.parts and collection.name not in EXCEPTIONS:
                yield path


@pytest.mark.parametrize("folder", list(leaf_folders()), ids=lambda path: str(path.relative_to(DATASETS)))
def test_every_volume_of_the_converter_is_one_of_ours(folder, tmp_path):
    others = references(folder, tmp_path / "out")
    if not others:
        pytest.skip("nothing that the converter takes for a scan")
    ours = [read_volume(scan) for scan in survey(folder).scans]
    missing = [f"{other.name} {other.time}" for other in others if not any(other.agrees(volume) for volume in ours)]
    assert missing == []
