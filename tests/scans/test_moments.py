"""Series of several volumes that times, kernels or positions alone tell apart: whole volumes, or none."""

import numpy as np
import pytest

from pipeline.domain import ScanError
from pipeline.scans.find import find_scans, read_volume
from pipeline.scans.geometry import same_place
from tests.scans.phantoms import pixels, series

PLACES = 4
VOLUMES = 3


def volumes(folder, change, place=lambda volume, place: place, seed=7, count=VOLUMES):
    """[(group, which volume each slice is of)] of a CT series; its slices hold the number of their volume."""
    stored = np.ones_like(pixels(PLACES * count)) * np.repeat(np.arange(count), PLACES)[:, None, None]
    stored = stored.astype(np.uint16)

    def both(ds, k):
        del ds.InstanceNumber
        ds.ImagePositionPatient = [0, 0, place(*divmod(k, PLACES))]
        change(ds, *divmod(k, PLACES))

    scans, _ = find_scans(series(folder, both, slices=PLACES * count, stored=stored, seed=seed))
    return [(scan.group, (read_volume(scan).voxels[0, 0] + 1024).tolist()) for scan in scans]


def whole(names):
    return [(name, [float(i)] * PLACES) for i, name in enumerate(names)]


def clock(seconds):
    return f"{seconds // 3600 % 24:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"


def by_kernel(ds, volume, place):
    ds.ConvolutionKernel, ds.ContentTime = f"B{volume}0f", clock(10 * place + (volume + 2 * place) % 3)


def by_voltage(ds, volume, place):
    ds.KVP, ds.AcquisitionTime = [80, 100, 140][volume], clock(10 * place + (volume + place) % 3)


def by_frame_of_time(ds, volume, place):
    ds.Modality, ds.FrameReferenceTime, ds.ContentTime = "PT", 60_000 * volume, clock((7 * volume + 5 * place) % 12)


def by_percent(ds, volume, place):
    ds.NominalPercentageOfCardiacPhase, ds.ContentTime = 10 * volume, clock((7 * volume + 5 * place) % 12)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (by_kernel, ["kernel=B00f", "kernel=B10f", "kernel=B20f"]),
        (by_voltage, ["kvp=80", "kvp=100", "kvp=140"]),
        (by_frame_of_time, ["t0", "t1", "t2"]),
        (by_percent, ["t0", "t1", "t2"]),
    ],
)
def test_what_made_the_slices_tells_volumes_apart(tmp_path, change, names):
    assert volumes(tmp_path, change) == whole(names)


def test_the_order_of_volumes_does_not_depend_on_the_files_names(tmp_path):
    found = [
        volumes(tmp_path / str(seed), lambda ds, volume, _: setattr(ds, "EchoTime", 9 + volume), seed=seed)
        for seed in range(3)
    ]
    assert found == [whole(["echo=9", "echo=10", "echo=11"])] * 3


def test_a_volume_taken_over_midnight_is_whole(tmp_path):
    def change(ds, volume, place):
        seconds = 86_398 + 10 * volume + place
        ds.AcquisitionTime, ds.AcquisitionDate = clock(seconds), ["20200229", "20200301"][seconds // 86_400]

    assert volumes(tmp_path, change) == whole(["t0", "t1", "t2"])


def over_midnight(ds, volume, place):
    ds.AcquisitionTime = clock(86_398 + 10 * volume + place)


def created_in_no_order(ds, volume, place):
    ds.ContentTime = clock((7 * volume + 5 * place) % 12)


def beating(ds, volume, place):
    ds.TriggerTime = (40 * volume + 130 * place) % 120 + 5 * volume


def jittering(ds, volume, place):
    ds.TriggerTime = 100 * place + (7 * volume + 5 * place) % 12


def acquired_in_no_order(ds, volume, place):
    ds.AcquisitionNumber = 3 * place + (volume + place) % 3


@pytest.mark.parametrize("change", [over_midnight, created_in_no_order, beating, jittering, acquired_in_no_order])
def test_instance_numbers_count_more_than_doubtful_times(tmp_path, change):
    def numbered(ds, volume, place):
        change(ds, volume, place)
        ds.InstanceNumber = 1 + PLACES * volume + place

    assert volumes(tmp_path, numbered) == whole(["t0", "t1", "t2"])


def numbered_alike(ds, volume, place):
    ds.InstanceNumber, ds.AcquisitionTime = place + 1, clock(3 * place + (volume + place) % 3)


def announced_without_order(ds, volume, place):
    ds.NumberOfTemporalPositions, ds.InstanceNumber = VOLUMES, 1 + (5 * volume + 7 * place) % 12


def test_heart_beats_that_jitter_leave_it_to_times(tmp_path):
    def change(ds, volume, place):
        jittering(ds, volume, place)
        ds.AcquisitionTime = clock(10 * volume + place)

    assert volumes(tmp_path, change) == whole(["t0", "t1", "t2"])


@pytest.mark.parametrize(
    "change", [over_midnight, created_in_no_order, jittering, numbered_alike, announced_without_order]
)
def test_doubtful_times_alone_separate_nothing(tmp_path, change):
    with pytest.raises(ScanError, match="conflicting_slices: 3 slices with different pixels"):
        volumes(tmp_path, change)


@pytest.mark.parametrize("seconds", [lambda v, p: 10 * v + p, lambda v, p: 10 * p + v], ids=["volumes", "places"])
def test_times_that_run_through_volumes_or_places_separate_them(tmp_path, seconds):
    found = volumes(tmp_path, lambda ds, v, p: setattr(ds, "AcquisitionTime", clock(seconds(v, p))))
    assert found == whole(["t0", "t1", "t2"])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda ds, volume, _: setattr(ds, "AcquisitionNumber", volume + 1), ["pass=1", "pass=2"]),
        (lambda ds, volume, _: setattr(ds, "ConvolutionKernel", f"B{volume}0f"), ["kernel=B00f", "kernel=B10f"]),
    ],
)
def test_volumes_of_a_ct_half_a_step_apart_are_not_one(tmp_path, change, names):
    assert volumes(tmp_path, change, lambda volume, place: place + volume / 2, count=2) == whole(names)


def test_acquisitions_one_behind_the_other_are_one_volume(tmp_path):
    def change(ds, volume, _):
        ds.AcquisitionNumber = volume + 1

    ((group, values),) = volumes(tmp_path, change, lambda volume, place: place + PLACES * volume, count=2)
    assert (group, values) == ("", [0.0] * PLACES + [1.0] * PLACES)


def test_rounding_noise_does_not_part_a_place(tmp_path):
    def change(ds, volume, place):
        ds.TemporalPositionIdentifier, ds.ImagePositionPatient = volume + 1, [0, 0, place + 0.004 + 0.001 * volume]

    assert volumes(tmp_path, change) == whole(["t0", "t1", "t2"])
    assert same_place([[0, 0, 0.0049], [0, 0, 1], [0, 0, 0.0051]]) == [[0, 2], [1]]
    assert same_place([[0, 0, 0.01 * k] for k in range(5)]) == [[k] for k in range(5)]
