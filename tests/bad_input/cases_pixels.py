"""Class C, second part: bits, signs, colours and values of pixels."""

from pathlib import Path

import numpy as np
from pydicom.uid import ExplicitVRBigEndian

from tests.bad_input.case import OK, Truth, case, reject, warn
from tests.bad_input.phantoms import both, lone, radiograph, setting
from tests.scans.phantoms import Change, pixels, put_pixels

SLICE = pixels(1)[0]
RGB = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
RED = np.broadcast_to([254, 0, 0], (4, 6, 3))


def stored(values: np.ndarray, bits: int, signed: bool = False) -> Change:
    """Other pixels, of so many bits."""

    def change(ds, k: int) -> None:
        put_pixels(ds, values, bits)
        ds.PixelRepresentation = int(signed)

    return change


def monochrome1(dtype: type):
    return lambda folder: radiograph(
        folder,
        both(stored(SLICE.astype(dtype), 12, dtype is np.int16), setting(PhotometricInterpretation="MONOCHROME1")),
        values=-1.0 - SLICE if dtype is np.int16 else 4095.0 - SLICE,
    )


def signed12(high_bits: int):
    """12-bit numbers from -200 to -41 in 16 bits, with these in the four bits above."""
    numbers = SLICE.astype(np.int16) - 300
    words = (numbers & 0x0FFF).view(np.uint16) | high_bits
    return lambda folder: lone(folder, stored(words.astype(np.uint16), 12, signed=True), values=numbers - 1024.0)


def overlay(folder: Path) -> Truth:
    return lone(folder, stored(SLICE | 0x8000, 12))


def colour(photometric: str, values: np.ndarray, truth: np.ndarray, planar: int = 0, within: float = 0):
    def change(ds, k: int) -> None:
        put_pixels(ds, np.zeros((4, 6), np.uint8))
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, photometric, planar
        ds.PixelData = values.tobytes()

    def build(folder: Path) -> Truth:
        read = radiograph(folder, change, values=truth)
        return Truth(read.values, read.affine, within)

    return build


def palette(folder: Path) -> Truth:
    indices = np.arange(24, dtype=np.uint8).reshape(4, 6) % 4

    def change(ds, k: int) -> None:
        put_pixels(ds, indices)
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for shift, name in enumerate(("Red", "Green", "Blue")):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
            ds[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
            setattr(ds, f"{name}PaletteColorLookupTableData", bytes([10 * shift, 20, 30 + shift, 40]))

    return radiograph(folder, change, np.stack([np.array([10 * s, 20, 30 + s, 40])[indices] for s in range(3)], -1))


def floating(*odd: float):
    """FloatPixelData, the first of them odd."""
    values = SLICE.astype(np.float32) / 7
    values[0, : len(odd)] = odd

    def change(ds, k: int) -> None:
        put_pixels(ds, np.zeros(values.shape, np.uint32))
        del ds.PixelData
        ds.FloatPixelData = values.tobytes()

    return lambda folder: lone(folder, change, values=values - np.float32(1024))


def big_endian(folder: Path) -> Truth:
    change = setting(PixelData=SLICE.astype(">u2").tobytes())
    return lone(folder, change, syntax=ExplicitVRBigEndian)


def one_bit(folder: Path) -> None:
    lone(folder, setting(BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=bytes(10)))


def constant(folder: Path) -> Truth:
    return lone(folder, stored=np.full((8, 10), 700, np.uint16))


CASES = (
    case("C11", "MONOCHROME1, unsigned and signed: turned around the stored bits", OK,
         monochrome1(np.uint16), monochrome1(np.int16)),
    case("C12", "signed 12 bits in 16, the sign not extended", OK, signed12(0)),
    case("C13", "BitsStored 12, HighBit 15", reject("bad_bits"),
         lambda folder: lone(folder, setting(BitsStored=12, HighBit=15))),
    case("C13", "overlay bits above the stored ones, unsigned and signed: masked", OK, overlay, signed12(0xF000)),
    case("C14", "RGB, palette", OK, colour("RGB", RGB, RGB), palette),
    case("C14", "YBR_FULL, YBR_FULL_422: within 1 of red", OK,
         colour("YBR_FULL", np.broadcast_to(np.array([76, 85, 255], np.uint8), (4, 6, 3)), RED, within=1),
         colour("YBR_FULL_422", np.tile(np.array([76, 76, 85, 255], np.uint8), 12), RED, within=1)),
    case("C14", "CMYK; four samples a pixel", reject("unsupported_pixels"),
         lambda folder: lone(folder, setting(PhotometricInterpretation="CMYK")),
         lambda folder: lone(folder, setting(SamplesPerPixel=4))),
    case("C15", "PlanarConfiguration 1", OK, colour("RGB", RGB.transpose(2, 0, 1).copy(), RGB, planar=1)),
    case("C17", "all pixels equal", warn("blank"), constant),
    case("C18", "FloatPixelData with a NaN, an infinity", reject("non_finite"), floating(np.nan), floating(np.inf)),
    case("C18", "FloatPixelData of finite numbers", OK, floating()),
    case("C19", "big-endian pixels: native float32 in the end", OK, big_endian),
    case("C20", "pixels of 1 bit", reject("unsupported_pixels"), one_bit),
)  # fmt: skip
