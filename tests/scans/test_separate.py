"""Series of several volumes: what tells them apart, by vendor; never interleaved."""

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.domain import ScanError
from pipeline.scans.find import find_scans, read_volume
from tests.scans.phantoms import pixels, series


def places_in_turn(k):
    return k % 3


def times_in_turn(k):
    return k // 2


@pytest.mark.parametrize("place", [places_in_turn, times_in_turn])
def test_instance_numbers_that_count_whole_volumes_separate_them(tmp_path, place):
    scans, _ = find_scans(series(tmp_path, lambda ds, k: setattr(ds, "ImagePositionPatient", [0, 0, place(k)])))
    first, second = sorted(scans, key=lambda scan: scan.group)
    assert (first.group, second.group) == ("t0", "t1")
    expected = pixels()[[k for k in range(6) if place(k) != place(k - 1) or place is places_in_turn][:3]]
    np.testing.assert_array_equal(read_volume(first).voxels[::-1, ::-1].transpose(2, 1, 0), expected - 1024.0)


def test_instance_numbers_in_no_order_separate_nothing(tmp_path):
    def change(ds, k):
        ds.ImagePositionPatient, ds.InstanceNumber = [0, 0, k % 3], [1, 2, 4, 5, 3, 6][k]

    (scan,), _ = find_scans(series(tmp_path, change))
    with pytest.raises(ScanError, match="conflicting_slices"):
        read_volume(scan)


def test_times_that_come_unequally_often_separate_nothing(tmp_path):
    def change(ds, k):
        ds.ImagePositionPatient, ds.InstanceNumber = [0, 0, k % 2], 1
        ds.TemporalPositionIdentifier = [1, 1, 2][k // 2]

    (scan,), _ = find_scans(series(tmp_path, change))
    assert scan.group == ""


def test_instance_numbers_at_a_single_place_separate_nothing(tmp_path):
    (scan,), _ = find_scans(series(tmp_path, lambda ds, k: setattr(ds, "ImagePositionPatient", [0, 0, 0]), slices=2))
    with pytest.raises(ScanError, match="conflicting_slices: 2 slices with different pixels"):
        read_volume(scan)


def test_acquisitions_of_different_coverage_are_volumes_of_their_own(tmp_path):
    def change(ds, k):
        ds.AcquisitionNumber, ds.ImagePositionPatient = (1, [0, 0, k]) if k < 4 else (2, [0, 0, k - 3])

    scans, _ = find_scans(series(tmp_path, change))
    assert [(scan.group, len(scan.paths)) for scan in scans] == [("acquisition=1", 4), ("acquisition=2", 2)]


def test_acquisitions_that_are_packages_of_slices_do_not_halve_a_volume(tmp_path):
    def change(ds, k):
        time, place = divmod(k, 4)
        ds.ImagePositionPatient, ds.AcquisitionNumber = [0, 0, place], 2 * time + place % 2 + 1

    scans, _ = find_scans(series(tmp_path, change, slices=8))
    assert [(scan.group, len(scan.paths)) for scan in scans] == [("t0", 4), ("t1", 4)]


def test_an_echo_time_that_wanders_from_place_to_place_separates_nothing(tmp_path):
    def change(ds, k):
        time, place = divmod(k, 4)
        ds.ImagePositionPatient, ds.TemporalPositionIdentifier = [0, 0, place], time + 1
        ds.EchoTime = str(round(4.9 + 0.01 * (place % 2) + 0.001 * time, 3))

    scans, _ = find_scans(series(tmp_path, change, slices=8))
    assert [(scan.group, len(scan.paths)) for scan in scans] == [("t0", 4), ("t1", 4)]


def test_an_original_and_what_was_derived_from_it_are_separate(tmp_path):
    def change(ds, k):
        ds.ImagePositionPatient = [0, 0, k % 3]
        ds.ImageType = [["ORIGINAL", "PRIMARY", "OTHER"], ["DERIVED", "SECONDARY", "OTHER"]][k // 3]

    scans, _ = find_scans(series(tmp_path, change))
    assert [scan.group for scan in scans] == ["origin=ORIGINAL/PRIMARY", "origin=DERIVED/SECONDARY"]


def by_standard(ds, k):
    ds.ComplexImageComponent = ["REAL", "IMAGINARY"][k // 3]


def by_ge(ds, k):
    ds.Manufacturer = "GE MEDICAL SYSTEMS"
    ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", [2, 3][k // 3])


@pytest.mark.parametrize("component", [by_standard, by_ge])
def test_parts_of_the_complex_signal_are_separate(tmp_path, component):
    def change(ds, k):
        ds.ImagePositionPatient = [0, 0, k % 3]
        component(ds, k)

    scans, _ = find_scans(series(tmp_path, change))
    assert [scan.group for scan in scans] == ["component=REAL", "component=IMAGINARY"]


def test_volumes_come_in_the_order_of_their_acquisition(tmp_path):
    def change(ds, k):
        ds.ImagePositionPatient, ds.EchoTime = [0, 0, k % 2], [30, 4, 100][k // 2]

    scans, _ = find_scans(series(tmp_path, change))
    assert [scan.group for scan in scans] == ["echo=30", "echo=4", "echo=100"]


def test_phases_within_time_points_are_separate(tmp_path):
    def change(ds, k):
        time, phase, place = k // 6, k // 2 % 3, k % 2
        ds.ImagePositionPatient, ds.TemporalPositionIdentifier, ds.TriggerTime = (
            [0, 0, place],
            time + 1,
            300 + 50 * phase,
        )
        ds.InstanceNumber = 12 - k

    scans, _ = find_scans(series(tmp_path, change, slices=12))
    assert {scan.group for scan in scans} == {f"phase={time};t{phase}" for time in range(2) for phase in range(3)}
    (last,) = (scan for scan in scans if scan.group == "phase=1;t2")
    assert read_volume(last).voxels.min() == pixels(12)[10].min() - 1024.0


PRIVATE_DIFFUSION = {
    "SIEMENS": [(0x0019, "SIEMENS MR HEADER", 0x0C, "IS"), (0x0019, "SIEMENS MR HEADER", 0x0E, "FD")],
    "GE MEDICAL SYSTEMS": [
        (0x0043, "GEMS_PARM_01", 0x39, "IS"),
        *((0x0019, "GEMS_ACQU_01", element, "DS") for element in (0xBB, 0xBC, 0xBD)),
    ],
    "Philips Healthcare": [
        (0x2001, "Philips Imaging DD 001", 0x03, "FL"),
        *((0x2005, "Philips MR Imaging DD 001", element, "FL") for element in (0xB0, 0xB1, 0xB2)),
    ],
    "UIH": [(0x0065, "Image Private Header", 0x09, "FD"), (0x0065, "Image Private Header", 0x37, "FD")],
}


# without VRs, United Imaging's elements are bytes: no dictionary has them
@pytest.mark.parametrize(
    ("vendor", "syntax"),
    [(vendor, ExplicitVRLittleEndian) for vendor in PRIVATE_DIFFUSION]
    + [(vendor, ImplicitVRLittleEndian) for vendor in PRIVATE_DIFFUSION if vendor != "UIH"],
)
def test_each_vendors_diffusion_weighting_separates_volumes(tmp_path, vendor, syntax):
    weights = [(0, (0.0, 0.0, 0.0)), (1000, (1.0, 0.0, 0.0)), (1000, (0.0, 0.6, -0.8))]

    def change(ds, k):
        b, direction = weights[k // 2]
        ds.Manufacturer, ds.ImagePositionPatient, ds.InstanceNumber = vendor, [0, 0, k % 2], 1
        ds.file_meta.TransferSyntaxUID = syntax
        (group, owner, element, vr), *rest = PRIVATE_DIFFUSION[vendor]
        strength = [b + 10**9, 8, 0, 0] if vendor.startswith("GE") and b else b
        ds.private_block(group, owner, create=True).add_new(element, vr, strength)
        values = [list(direction)] if len(rest) == 1 else direction
        for (group, owner, element, vr), value in zip(rest, values, strict=True):
            ds.private_block(group, owner, create=True).add_new(element, vr, value)

    scans, _ = find_scans(series(tmp_path, change))
    assert {scan.group for scan in scans} == {
        "b=0",
        "b=1000;direction=1.000,0.000,0.000",
        "b=1000;direction=0.000,0.600,-0.800",
    }
