"""How a slice is diffusion-weighted: by the standard's elements, or by those of the vendor."""

from dataclasses import dataclass
from functools import lru_cache

from pipeline.scans.headers import Header


@dataclass(frozen=True, slots=True)
class Vendor:
    """Where a vendor writes the diffusion weighting (dicom conformance statements; dcm2niix's documentation).

    Attributes:
        name: How Manufacturer begins, in capitals.
        b_value: Private element of the b-value in s/mm^2.
        direction: Private elements of the gradient's direction: one with three values, or three with one.
    """

    name: str
    b_value: int
    direction: tuple[int, ...]


VENDORS = (
    Vendor("SIEMENS", 0x0019100C, (0x0019100E,)),
    Vendor("GE", 0x00431039, (0x001910BB, 0x001910BC, 0x001910BD)),
    Vendor("PHILIPS", 0x20011003, (0x200510B0, 0x200510B1, 0x200510B2)),
    Vendor("UIH", 0x00651009, (0x00651037,)),
)


def b_value_of(header: Header) -> float | None:
    """The diffusion weighting in s/mm^2, None where the file names none."""
    value = header.number("DiffusionBValue")
    if value is None and (vendor := _vendor(header)):
        value = next(iter(header.private_numbers(vendor.b_value)), None)
        # GE adds 10^9 to mark single values
        value = value % 1e5 if value is not None and vendor.name == "GE" else value
    return value


def direction_of(header: Header) -> str:
    """The diffusion gradient's direction as it stands in a group's name, empty where the file names none."""
    numbers = header.numbers("DiffusionGradientOrientation")
    if not numbers and (vendor := _vendor(header)):
        numbers = tuple(number for tag in vendor.direction for number in header.private_numbers(tag))
    return direction_name(numbers)


def direction_name(numbers: tuple[float, ...]) -> str:
    """A direction as it stands in a group's name; no "-0.000"."""
    return ",".join(f"{round(number, 3) + 0.0:.3f}" for number in numbers)


def _vendor(header: Header) -> Vendor | None:
    return _vendor_called(header.text("Manufacturer").upper())


@lru_cache
def _vendor_called(manufacturer: str) -> Vendor | None:
    return next((vendor for vendor in VENDORS if manufacturer.startswith(vendor.name)), None)
