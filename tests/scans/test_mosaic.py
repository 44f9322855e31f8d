"""Mosaics of Siemens and United Imaging: cut into slices, each where it belongs."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.domain import ScanError
from pipeline.scans.find import find_scans, read_volume
from pipeline.scans.mosaic import Mosaic, tiles_across, unpack
from tests.scans.phantoms import COLUMNS, ORIGIN, ROWS, STEP, dicom, pixels, put_pixels, series, write


def mosaic(tiles, order):
    return Mosaic(tiles, np.array(order), np.eye(4))


def test_a_mosaic_is_cut_row_by_row():
    picture = np.arange(36, dtype=np.float32).reshape(6, 6)
    slices = unpack(picture, mosaic((2, 2), [0, 1, 2]))
    assert slices.shape == (3, 3, 3)
    np.testing.assert_array_equal(slices[1], picture[:3, 3:])
    np.testing.assert_array_equal(slices[2], picture[3:, :3])
    assert [tiles_across(count) for count in (1, 4, 5, 35)] == [1, 2, 3, 6]
    with pytest.raises(ScanError, match="bad_dimensions: a mosaic of 5 slices"):
        unpack(picture[:5], mosaic((3, 3), range(5)))


def test_a_mosaic_without_its_description_is_refused(tmp_path):
    folder = series(tmp_path, lambda ds, k: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), slices=1)
    with pytest.raises(ScanError, match="no_geometry: the mosaic does not say"):
        read_volume(folder)


def united_imaging(path, slices=6, change=lambda ds: None):
    """The classic phantom as one file: two rows of three tiles, the last slice first."""
    stored = pixels(slices)[::-1]
    picture = stored.reshape(2, 3, ROWS, COLUMNS).swapaxes(1, 2).reshape(2 * ROWS, 3 * COLUMNS)
    ds = dicom(picture, ORIGIN)
    del ds.ImagePositionPatient
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Manufacturer = "1.2", "1.2.3", "UIH"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    put_pixels(ds, picture)
    tiles = []
    for k in reversed(range(slices)):
        tile = Dataset()
        tile.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + STEP * k]
        tiles.append(tile)
    block = ds.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x51, "SQ", Sequence(tiles))
    change(ds)
    return write(ds, path)


def test_a_united_imaging_grid_equals_the_classic_series(tmp_path):
    classic, grid = read_volume(series(tmp_path / "classic")), read_volume(united_imaging(tmp_path / "grid.dcm"))
    np.testing.assert_array_equal(grid.voxels, classic.voxels)
    np.testing.assert_allclose(grid.affine, classic.affine, atol=1e-9)


def test_a_tile_without_position_is_refused(tmp_path):
    def change(ds):
        del ds[0x0065, 0x1051].value[2].ImagePositionPatient

    with pytest.raises(ScanError, match="no_geometry: the tiles of the mosaic do not say where they lie"):
        read_volume(united_imaging(tmp_path / "grid.dcm", change=change))


def test_mosaics_of_several_echoes_are_numbered_echo_by_echo(tmp_path):
    for number, (echo, time) in enumerate([(10, 0), (20, 0), (10, 1), (20, 1)]):

        def change(ds, number=number, echo=echo):
            ds.EchoTime, ds.InstanceNumber = echo, number + 1
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"

        united_imaging(tmp_path / f"{echo}-{time}.dcm", change=change)
    scans, _ = find_scans(tmp_path)
    assert {(scan.path.stem, scan.group) for scan in scans} == {
        (f"{echo}-{time}", f"echo={echo};t{time}") for echo in (10, 20) for time in (0, 1)
    }
