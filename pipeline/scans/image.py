"""PNG, JPEG and TIFF pictures -> one-slice Volumes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipeline.domain import ReadRules, Reason, Scan, ScanError, Volume
from pipeline.scans.boundary import check_inflation, check_voxels
from pipeline.scans.geometry import PICTURE, plane_affine, to_closest_ras
from pipeline.scans.select import check_slices

BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 262, 284, 339
"""Tags of a TIFF file."""

WHITE_IS_ZERO, PLANE_BY_PLANE, SIGNED = 0, 2, 2
"""Values of the last three."""

FORMATS = ("PNG", "JPEG", "TIFF")

GREY_MODES = frozenset({"L", "LA", "I", "I;16", "I;16B", "I;16L", "F"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA"})


def check_picture(path: Path) -> None:
    """Read a picture's header.

    Raises:
        ScanError: malformed, unsupported_pixels (bitmaps, CMYK), ambiguous_volume (several pages), too_large.
        Exception: What pillow raises on a malformed file (callers stand behind `boundary.refusing`).
    """
    with _opened(path):
        pass


def read_picture(scan: Scan, rules: ReadRules) -> Volume:
    """A picture as a one-slice Volume of 1 mm pixels: values as stored, colour only where the channels differ.

    Raises:
        ScanError: As `check_picture`; truncated.
    """
    check_slices(1, rules)
    path = scan.paths[0]
    with _opened(path) as picture:
        check_voxels(picture.width * picture.height, rules.max_voxels)
        values = _values(path, picture).astype(np.float32)
    if not np.isfinite(values).all():
        raise ScanError(Reason.NON_FINITE, "pixels that are no finite numbers")
    blank = ("blank",) if values.min() == values.max() else ()
    if values.ndim == 3 and (values[..., :1] == values).all():
        values = values[..., 0]  # a grey picture that was saved as colour
    columns_first = values[None].transpose(2, 1, 0, *range(3, values.ndim + 1))
    turned, affine, code = to_closest_ras(columns_first, plane_affine(PICTURE, (1, 1), (0, 0, 0), (0, 0, 1)))
    return Volume(turned, affine, "a.u.", code, (*scan.warnings, "no_spacing", *blank))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, checked; what pillow finds damaged while it is read is refused too."""
    # not by its name: pillow 13 maps such files, and mixes up the rows of a TIFF that is turned
    with path.open("rb") as file:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                _check(path, picture)
                yield picture
        except Image.DecompressionBombError:
            raise ScanError(Reason.TOO_LARGE, "the picture has more pixels than any radiograph") from None
        except UnidentifiedImageError:
            raise ScanError(
                Reason.MALFORMED, "the picture is damaged, or of a kind that can't be read; save it with 8 or 16 bits"
            ) from None
        except OSError as error:
            if error.errno is not None:
                raise
            reason = Reason.TRUNCATED if "truncated" in str(error).lower() else Reason.MALFORMED
            raise ScanError(reason, "the picture ends early or is damaged") from None


def _check(path: Path, picture: Image.Image) -> None:
    pages = int(getattr(picture, "n_frames", 1))
    if pages > 1:
        raise ScanError(Reason.AMBIGUOUS_VOLUME, f"the picture has {pages} pages; expected one")
    if picture.mode not in GREY_MODES | COLOUR_MODES:
        raise ScanError(
            Reason.UNSUPPORTED_PIXELS, f"pictures of mode {picture.mode} aren't supported; save as grey or RGB"
        )
    check_inflation(path.stat().st_size, picture.width * picture.height * 8)


def _values(path: Path, picture: Image.Image) -> NDArray[Any]:
    """Stored values [row, column] or [row, column, 3], turned upright where EXIF says so."""
    if picture.mode in COLOUR_MODES and _is_deep(path, picture):
        return _turned(_deep_values(path, picture), picture.getexif().get(ExifTags.Base.Orientation, 1))
    upright = ImageOps.exif_transpose(picture)
    if upright.mode == "LA":
        upright = upright.getchannel("L")
    if upright.mode in COLOUR_MODES:
        upright = upright.convert("RGB")
    values = np.asarray(upright)
    return _as_tagged(picture, values) if picture.format == "TIFF" and values.ndim == 2 else values


def _deep_values(path: Path, picture: Image.Image) -> NDArray[Any]:
    """Values of 16 bits a channel as stored: [row, column] or [row, column, 3], without alpha."""
    import imagecodecs

    decode = imagecodecs.png_decode if picture.format == "PNG" else imagecodecs.tiff_decode
    values = np.asarray(decode(path.read_bytes()))
    if getattr(picture, "tag_v2", {}).get(PLANAR) == PLANE_BY_PLANE:
        values = np.moveaxis(values, 0, -1)
    if sorted(values.shape[:2]) != sorted(picture.size):
        raise ScanError(Reason.UNSUPPORTED_PIXELS, "the picture's channels lie in an order that is not supported")
    return values[..., 0] if values.shape[-1] == 2 else values[..., :3]  # two: grey and alpha


def _as_tagged(picture: Image.Image, values: NDArray[Any]) -> NDArray[Any]:
    """Grey values of a TIFF with the sign and the sense of its tags, of which pillow heeds not all."""
    tags = getattr(picture, "tag_v2", {})
    bits, signed = tags.get(BITS_PER_SAMPLE, (8,))[0], tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    if picture.mode == "L" and signed:
        values = values.view(np.int8)
    elif picture.mode == "I" and bits == 32 and not signed:
        values = values.view(np.uint32)
    if tags.get(PHOTOMETRIC) != WHITE_IS_ZERO or (picture.mode == "L" and not signed):  # that pillow has turned
        return values
    if not picture.mode.startswith("I;16"):
        raise ScanError(Reason.UNSUPPORTED_PIXELS, "a TIFF picture whose zeros are white needs unsigned 8 or 16 bits")
    darkest = (1 << int(bits)) - 1
    return darkest - values.astype(np.int32)


def _turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Values [row, column, ...] turned upright (EXIF 2.32, tag Orientation)."""
    if orientation >= 5:  # rows and columns change places
        values = values.swapaxes(0, 1)
    backwards = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    return np.flip(values, backwards.get(orientation, ()))


def _is_deep(path: Path, picture: Image.Image) -> bool:
    """Whether a colour picture has 16 bits a channel, which pillow would cut to 8."""
    if picture.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24:] == bytes([16])  # the depth in the IHDR chunk
    tags = getattr(picture, "tag_v2", {})
    return bool(max(tags.get(BITS_PER_SAMPLE, (8,))) > 8)
