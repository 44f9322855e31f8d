"""Twenty good files, of every kind that the reader knows: what the mutants are made of."""

import gzip
from collections.abc import Callable
from io import BytesIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image, PngImagePlugin
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian
from pydicom.uid import ImplicitVRLittleEndian as Implicit

from tests.bad_input import cases_codecs as codecs
from tests.bad_input.cases_nifti_header import another_format
from tests.bad_input.cases_pixels import palette
from tests.bad_input.phantoms import CANARY, nii, plant
from tests.scans import phantoms
from tests.scans.phantoms import put_pixels, write
from tests.scans.test_enhanced import echoes, enhanced

MOSAIC = Path(nib.__file__).parent / "nicom" / "tests" / "data" / "siemens_dwi_1000.dcm.gz"
GREY = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)


def of_frames(folder: Path) -> None:
    """Two echoes in one enhanced file."""
    enhanced(folder / "a.dcm", plant, echoes)


def mosaic(folder: Path) -> None:
    """A Siemens mosaic with its CSA header, its tiles made small: the header is what counts."""
    ds = pydicom.dcmread(BytesIO(gzip.decompress(MOSAIC.read_bytes())))
    put_pixels(ds, np.arange(56 * 56, dtype=np.uint16).reshape(56, 56), ds.BitsStored)  # 7 x 7 tiles for 48 slices
    write(ds, folder / "a.dcm")


def picture(name: str, values: np.ndarray, **options: object) -> Callable[[Path], object]:
    return lambda folder: Image.fromarray(values).save(folder / name, **options)


def noted_png(folder: Path) -> None:
    """A PNG of 16 bits that names the patient."""
    note = PngImagePlugin.PngInfo()
    note.add_text("Patient", CANARY)
    file = BytesIO()
    Image.fromarray(GREY * 50).save(file, "PNG", pnginfo=note)
    (folder / "a.png").write_bytes(file.getvalue())


BUILDS: dict[str, Callable[[Path], object]] = {
    "implicit": codecs.native(Implicit),
    "explicit": codecs.native(ExplicitVRLittleEndian),
    "big_endian": codecs.native(ExplicitVRBigEndian),
    "deflated": codecs.native(DeflatedExplicitVRLittleEndian),
    "rle": codecs.rle,
    "jpeg": codecs.BASELINE,
    "jpeg_12_bit": codecs.EXTENDED,
    "jpeg_lossless": codecs.LOSSLESS_JPEG[1],
    "jpeg_ls": codecs.JPEG_LS,
    "jpeg_2000": codecs.JPEG_2000,
    "htj2k": codecs.HTJ2K[0],
    "enhanced": of_frames,
    "mosaic": mosaic,
    "palette": palette,
    "nifti": nii,
    "nifti_gz": lambda folder: nii(folder, "a.nii.gz"),
    "nifti_2": another_format(nib.Nifti2Image, "a.nii"),
    "png": noted_png,
    "jpg": picture("a.jpg", (GREY // 5).astype(np.uint8), quality=90),
    "tiff": picture("a.tiff", GREY, compression="tiff_deflate"),
}


def seed_files() -> dict[str, tuple[str, bytes]]:
    """Name -> (file name, bytes) of each seed, the same in every run."""
    seeds = {}
    for name, build in BUILDS.items():
        numbers = count(10**9)
        with TemporaryDirectory() as folder, patch.object(phantoms, "generate_uid", lambda: f"1.2.{next(numbers)}"):  # noqa: B023
            build(Path(folder))
            (path,) = Path(folder).iterdir()
            seeds[name] = (path.name, path.read_bytes())
    return seeds
