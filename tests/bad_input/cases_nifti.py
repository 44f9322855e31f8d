"""Class G, first part: NIfTI files as files: sizes, compression, checksums."""

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.bad_input.case import Truth, case, either, reject
from tests.bad_input.phantoms import content, nii, written

NOISE = np.random.default_rng(0).integers(0, 50, (20, 20, 20)).astype(np.int16)
GIB = 2**30


def edited(edit: Callable[[bytes], bytes], name: str = "a.nii"):
    """A NIfTI file whose bytes are edited."""
    return written(lambda folder: nii(folder, name, voxels=NOISE), name, edit)


def claiming(*shape: int, zipped: bool = False):
    """A header alone that claims so many voxels."""

    def edit(raw: bytes) -> bytes:
        header = raw[:42] + struct.pack("<3h", *shape) + raw[48:352]
        return gzip.compress(header) if zipped else header

    def build(folder: Path) -> None:
        nii(folder)
        raw = edit((folder / "a.nii").read_bytes())
        (folder / "a.nii").unlink()
        (folder / ("a.nii.gz" if zipped else "a.nii")).write_bytes(raw)

    return build


def zipped_zeros(header: bytes, count: int) -> bytes:
    """A gzip stream of the header and `count` MiB of zeros: the same block again and again."""
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = engine.compress(header) + engine.flush(zlib.Z_FULL_FLUSH)
    block = engine.compress(bytes(2**20)) + engine.flush(zlib.Z_FULL_FLUSH)
    return start + block * count + engine.flush()


def bomb(*shape: int):
    """1 MB that inflates to 1 GiB."""

    def build(folder: Path) -> None:
        nii(folder)
        raw = (folder / "a.nii").read_bytes()
        (folder / "a.nii").unlink()
        header = raw[:42] + struct.pack("<3h", *shape) + raw[48:352]
        (folder / "a.nii.gz").write_bytes(zipped_zeros(header, GIB // 2**20))

    return build


def flips(folder: Path) -> Truth:
    """200 copies of a .nii.gz with one flipped bit each, anywhere behind the gzip header."""
    truth = nii(folder, "a.nii.gz", voxels=NOISE)
    raw = (folder / "a.nii.gz").read_bytes()
    (folder / "a.nii.gz").unlink()
    rng = random.Random(0)
    for n in range(200):
        mutant = bytearray(raw)
        mutant[rng.randrange(10, len(raw))] ^= 1 << rng.randrange(8)
        (folder / f"{n:03d}.nii.gz").write_bytes(bytes(mutant))
    return truth


CASES = (
    case("G1", "0 bytes", reject("not_an_image"), content("a.nii", b""), content("a.nii.gz", b"")),
    case("G2", "a file that ends in its header", reject("not_an_image"), edited(lambda raw: raw[:200])),
    case("G3", "a .nii cut by 1 byte, half", reject("truncated"),
         edited(lambda raw: raw[:-1]), edited(lambda raw: raw[: len(raw) // 2])),
    case("G4", "a .nii.gz cut by 1 byte, half", reject("truncated"),
         edited(lambda raw: raw[:-1], "a.nii.gz"), edited(lambda raw: raw[: len(raw) // 2], "a.nii.gz")),
    case("G5", "200 .nii.gz with one flipped bit each", either("checksum", "truncated", "not_an_image"), flips),
    case("G6", "a .nii.gz with a wrong checksum", reject("checksum"),
         edited(lambda raw: raw[:-8] + bytes(4) + raw[-4:], "a.nii.gz")),
    case("G7", "a header that claims 3.4 GB, in 352 bytes, plain and gzipped", reject("size_mismatch"),
         claiming(1200, 1200, 1200), claiming(1200, 1200, 1200, zipped=True)),
    case("G8", "a header that claims 32767 x 32767 x 32767 voxels", reject("too_large"),
         claiming(32767, 32767, 32767), claiming(32767, 32767, 32767, zipped=True)),
    case("G9", "1 MB that inflates to the 1 GiB of its header", reject("too_large"), bomb(1024, 1024, 512)),
    case("G10", "1 GiB of zeros behind the voxels of a .nii.gz", reject("size_mismatch"), bomb(4, 5, 6)),
    case("G10", "a .nii.gz, a .nii that goes on behind its voxels", reject("size_mismatch"),
         edited(lambda raw: raw + bytes(2000), "a.nii.gz"), edited(lambda raw: raw + bytes(len(raw)))),
)  # fmt: skip
