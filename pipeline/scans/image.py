"""PNG, JPEG and TIFF pictures -> one-slice Volumes."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.domain import ReadRules, Reason, Scan, ScanError, Volume
from pipeline.scans.boundary import check_inflation, check_voxels
from pipeline.scans.geometry import PICTURE, plane_affine, to_closest_ras
from pipeline.scans.select import check_slices

BITS_PER_SAMPLE = 258
"""Tag of a TIFF file."""

FORMATS = ("PNG", "JPEG", "TIFF")

GREY_MODES = frozenset({"L", "LA", "I", "I;16", "I;16B", "I;16L", "F"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA"})


def check_picture(path: Path) -> None:
    """Read a picture's header.

    Raises:
        ScanError: not_an_image, unsupported_pixels (bitmaps, CMYK), ambiguous_volume (several pages), too_large.
        Exception: What pillow raises on a malformed file (callers stand behind `boundary.refusing`).
    """
    with _open(path):
        pass


def read_picture(scan: Scan, rules: ReadRules) -> Volume:
    """A picture as a one-slice Volume of 1 mm pixels: values as stored, colour only where the channels differ.

    Raises:
        ScanError: As `check_picture`; truncated.
    """
    check_slices(1, rules)
    path = scan.paths[0]
    with _open(path) as picture:
        check_voxels(picture.width * picture.height, rules.max_voxels)
        try:
            stored = _values(path, picture)
        except OSError as error:
            reason = Reason.TRUNCATED if "truncated" in str(error) else Reason.MALFORMED
            raise ScanError(reason, "the picture ends early or is damaged") from None
    values = stored.astype(np.float32)
    if not np.isfinite(values).all():
        raise ScanError(Reason.NON_FINITE, "pixels that are no finite numbers")
    blank = ("blank",) if values.min() == values.max() else ()
    if values.ndim == 3 and (values[..., :1] == values).all():
        values = values[..., 0]  # a grey picture that was saved as colour
    columns_first = values[None].transpose(2, 1, 0, *range(3, values.ndim + 1))
    turned, affine, code = to_closest_ras(columns_first, plane_affine(PICTURE, (1, 1), (0, 0, 0), (0, 0, 1)))
    return Volume(turned, affine, "a.u.", code, (*scan.warnings, "no_spacing", *blank))


def _open(path: Path) -> Image.Image:
    try:
        picture = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ScanError(Reason.TOO_LARGE, "the picture has more pixels than any radiograph") from None
    except UnidentifiedImageError:
        raise ScanError(Reason.NOT_AN_IMAGE, "the file is no PNG, JPEG or TIFF picture") from None
    try:
        _check(path, picture)
    except ScanError:
        picture.close()
        raise
    return picture


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
        import imagecodecs

        decode = imagecodecs.png_decode if picture.format == "PNG" else imagecodecs.tiff_decode
        return np.asarray(decode(path.read_bytes()))[..., :3]
    upright = ImageOps.exif_transpose(picture)
    if upright.mode == "LA":
        upright = upright.getchannel("L")
    if upright.mode in COLOUR_MODES:
        upright = upright.convert("RGB")
    return np.asarray(upright)


def _is_deep(path: Path, picture: Image.Image) -> bool:
    """Whether a colour picture has 16 bits a channel, which pillow would cut to 8."""
    if picture.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24:] == bytes([16])  # the depth in the IHDR chunk
    tags = getattr(picture, "tag_v2", {})
    return bool(max(tags.get(BITS_PER_SAMPLE, (8,))) > 8)
