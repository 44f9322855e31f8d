import socket

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.public import _splits, main, set_name

RNG = np.random.default_rng(0)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def images(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def labels(*column):
    return np.array(column, dtype=np.uint8).reshape(-1, 1)


def test_radiographs_become_png_with_the_first_axis_as_rows(tmp_path, capsys):
    pictures = images(3, 5, 7)
    source = npz(
        tmp_path / "pneumoniamnist.npz", train_images=pictures, train_labels=labels(1, 0, 1), val_images=pictures[:1],
        val_labels=labels(1), test_images=pictures[1:], test_labels=labels(0, 1),
    )  # fmt: skip
    out = tmp_path / "out"
    assert main(["medmnist", "--npz", str(source), "--out", str(out)]) == 0
    table = pd.read_csv(out / "labels.csv")
    assert list(table.columns) == ["path", "pneumonia", "split"]
    assert list(table["split"]) == ["train"] * 3 + ["tune"] + ["test"] * 2
    assert list(table["pneumonia"]) == [1, 0, 1, 1, 0, 1]
    for path, expected in zip(table["path"], np.concatenate([pictures, pictures[:1], pictures[1:]]), strict=True):
        picture = Image.open(out / "scans" / path)
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), expected), "identical images stay as they are"
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert "--label pneumonia" in last


def test_volumes_become_nifti_with_identity_affine(tmp_path):
    volumes = images(2, 4, 5, 6)
    source = npz(tmp_path / "adrenalmnist3d_64.npz", train_images=volumes, train_labels=labels(0, 1))
    assert main(["medmnist", "--npz", str(source), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "labels.csv")
    assert list(table.columns) == ["path", "hyperplasia", "split"]
    for path, expected in zip(table["path"], volumes, strict=True):
        image = nib.load(tmp_path / "out" / "scans" / path)
        assert image.get_data_dtype() == np.uint8
        assert image.header["sform_code"] == 1
        assert np.array_equal(image.affine, np.eye(4))
        assert np.array_equal(np.asarray(image.dataobj), expected)


@pytest.mark.parametrize(
    ("name", "shape", "found", "columns", "mode"),
    [
        ("pathmnist", (2, 4, 4, 3), labels(0, 8), ["label"], "RGB"),
        ("chestmnist", (2, 4, 4), np.array([[0, 1, 1], [1, 0, 0]]), ["label_0", "label_1", "label_2"], "L"),
        ("bloodmnist", (2, 3, 4, 3), np.array([3, 7]), ["label"], "RGB"),
    ],
)
def test_colour_classes_and_several_labels_are_kept(tmp_path, name, shape, found, columns, mode):
    pictures = images(*shape)
    source = npz(tmp_path / f"{name}.npz", train_images=pictures, train_labels=found)
    assert main(["medmnist", "--npz", str(source), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "labels.csv")
    assert np.array_equal(table[columns].to_numpy(), found.reshape(2, -1))
    first = Image.open(tmp_path / "out" / "scans" / table["path"][0])
    assert first.mode == mode
    assert np.array_equal(np.asarray(first), pictures[0])


def test_a_second_run_writes_nothing_and_another_file_replaces(tmp_path):
    out = tmp_path / "out"
    first = npz(tmp_path / "breastmnist.npz", train_images=images(2, 4, 4), train_labels=labels(0, 1))
    second = npz(tmp_path / "dermamnist.npz", val_images=images(1, 4, 4, 3), val_labels=labels(5))
    assert main(["medmnist", "--npz", str(first), "--out", str(out)]) == 0
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["medmnist", "--npz", str(first), "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == kept
    assert main(["medmnist", "--npz", str(second), "--out", str(out)]) == 0
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == [
        "labels.csv", "made.json", "scans/tune/00000.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": images(1, 2, 2)}, "expected arrays train_images and train_labels"),
        ({"train_images": images(2, 4, 4), "train_labels": labels(1)}, "expected whole numbers as labels of 2 images"),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": labels(1, 0)}, "expected uint8 images"),
        ({"train_images": images(2, 16), "train_labels": labels(1, 0)}, "expected uint8 images"),
        ({"train_images": images(1, 4, 4), "train_labels": np.array([["ill"]])}, "found <U3"),
        ({"train_images": images(1, 4, 4), "train_labels": np.array([{}], dtype=object)}, "no readable .npz"),
    ],
)
def test_files_of_another_kind_are_refused_and_leave_nothing(tmp_path, capsys, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    assert main(["medmnist", "--npz", str(tmp_path / "x.npz"), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_no_npz_at_all_is_refused(tmp_path, capsys, content):
    (tmp_path / "x.npz").write_bytes(content)
    assert main(["medmnist", "--npz", str(tmp_path / "x.npz"), "--out", str(tmp_path / "out")]) == 2
    assert "no readable .npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected the kind of data set"),
        (["imagenet"], "got 'imagenet'"),
        (["medmnist", "--out", "{out}"], "either --npz FILE or --name SET"),
        (["medmnist", "--out", "{out}", "--npz", "a.npz", "--name", "b"], "either --npz FILE or --name SET"),
        (["medmnist", "--out", "{out}", "--npz", "nowhere.npz"], "nowhere.npz is no file"),
    ],
)
def test_wrong_use_exits_with_2_and_says_why(tmp_path, capsys, arguments, message):
    assert main([argument.format(out=tmp_path / "out") for argument in arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused(tmp_path, capsys):
    source = npz(tmp_path / "x.npz", train_images=images(1, 2, 2), train_labels=labels(1))
    assert main(["medmnist", "--npz", str(source), "--out", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err


def test_the_name_of_a_set_comes_from_its_file(tmp_path):
    found = [set_name(tmp_path / name) for name in ("adrenalmnist3d_64.npz", "chestmnist_224.npz", "mine.npz")]
    assert found == ["adrenalmnist3d", "chestmnist", "mine"]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [("mnist", 28, "expected one of pathmnist"), ("pneumoniamnist", 30, "comes in 28, 64, 128, 224; got 30")],
)
def test_unknown_sets_and_sizes_are_refused_before_the_network_is_asked(tmp_path, capsys, name, size, message):
    pytest.importorskip("medmnist", reason="the download needs the extra [public]")
    out = str(tmp_path / "out")
    assert main(["medmnist", "--name", name, "--size", str(size), "--out", out]) == 2
    assert message in capsys.readouterr().err


def test_without_a_network_the_error_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    medmnist = pytest.importorskip("medmnist", reason="the download needs the extra [public]")

    def no_network(self):
        raise RuntimeError("Something went wrong when downloading!")

    monkeypatch.setattr(medmnist.dataset.MedMNIST, "download", no_network)
    timeout = socket.getdefaulttimeout()
    assert main(["medmnist", "--name", "pneumoniamnist", "--out", str(tmp_path / "out")]) == 2
    assert "give it with --npz FILE" in capsys.readouterr().err
    assert socket.getdefaulttimeout() == timeout


def test_a_split_is_read_only_when_it_is_asked_for(tmp_path):
    source = npz(tmp_path / "x.npz", val_images=images(2, 3, 3), val_labels=labels(1, 0))
    assert [(split, len(pictures)) for split, pictures, _ in _splits(source)] == [("tune", 2)]
