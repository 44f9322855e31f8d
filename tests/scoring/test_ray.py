"""The Ray engine: the same rows, on this machine and on a cluster of two nodes of which one dies."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from pipeline.domain import UsageError
from pipeline.scoring import ray as engine
from pipeline.scoring.folder import Request, score
from pipeline.scoring.journal import Row
from tests.scoring.scenes import save_folder, save_nifti, save_tiny_model
from tests.scoring.test_folder import timeless

MOMENTS = {
    *("ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime", "ContributionDateTime"),
    *("DateOfSecondaryCapture", "TimeOfSecondaryCapture"),
}

ray = pytest.importorskip("ray")


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import this repository."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m")


@pytest.mark.slow
@pytest.mark.timeout(900)  # actors import everything anew: minutes where the disk is busy
@pytest.mark.usefixtures("importable")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_table_is_that_of_the_local_engine(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CHUNK", 5)
    scans = save_folder(tmp_path / "in", good=8)
    assert score(Request(model, scans, tmp_path / "local", workers=1)).read_now == 12
    done = score(Request(model, scans, tmp_path / "ray", workers=1, engine="ray"))
    assert done.read_now == 12
    assert timeless(tmp_path / "ray") == timeless(tmp_path / "local")
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    save_nifti(scans / "new.nii", 3)
    assert score(Request(model, scans, tmp_path / "ray", workers=1)).read_now == 1  # the journal is the same


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("importable")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_dicom_results_and_maps_are_those_of_the_local_engine(model: Path, tmp_path: Path) -> None:
    scans, kinds = save_folder(tmp_path / "in", good=2), ("dicom", "saliency")
    outs = {name: tmp_path / name for name in ("local", "ray")}
    for name, out in outs.items():
        score(Request(model, scans, out, workers=1, kinds=kinds, engine=name))
    assert timeless(outs["ray"]) == timeless(outs["local"])
    local, far = (
        {str(path.relative_to(out)): path for kind in kinds for path in (out / kind).rglob("*.*")}
        for out in outs.values()
    )
    assert sorted(far) == sorted(local)
    assert {path.suffix for path in local.values()} == {".dcm", ".gz"}
    for name, path in local.items():
        if path.suffix == ".dcm":
            assert momentless(far[name]) == momentless(path)
        else:
            assert far[name].read_bytes() == path.read_bytes()


def momentless(path: Path) -> dict[str, object]:
    """All elements of an object but those that say when it was made."""

    def drop(within: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if element.keyword in MOMENTS:
            del within[element.tag]

    ds = pydicom.dcmread(path)
    ds.walk(drop)
    return ds.file_meta.to_json_dict() | ds.to_json_dict()


def machine(cpus: float, gpus: float = 0.0, alive: bool = True) -> dict[str, object]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}}


@pytest.mark.parametrize(
    ("machines", "workers", "chunks", "expected"),
    [
        ([machine(2)], 2, 9, (2, 0, 1)),
        ([machine(16), machine(8)], 3, 9, (4, 0, 6)),
        ([machine(16), machine(8)], 3, 2, (4, 0, 2)),
        ([machine(16, 4), machine(8, 1), machine(64)], 3, 90, (4, 1, 5)),
        ([machine(2, 1), machine(4, 2)], 3, 90, (4, 1, 1)),
        ([machine(16), machine(16, alive=False)], 3, 9, (4, 0, 4)),
        ([machine(0.5)], 2, 9, (1, 0, 1)),
    ],
)
def test_actors_take_what_the_machines_have(
    machines: list[dict[str, object]], workers: int, chunks: int, expected: tuple[float, float, int]
) -> None:
    assert engine._share(machines, workers, chunks) == expected


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "127.0.0.1:x"])
def test_an_address_without_a_cluster_is_refused(model: Path, tmp_path: Path, address: str) -> None:
    save_nifti(tmp_path / "in" / "a.nii", 0)
    request = Request(model, tmp_path / "in", tmp_path / "out", engine="ray", ray_address=address)
    with pytest.raises(UsageError, match=rf"--ray-address {address}: no cluster answers there"):
        score(request)


def test_a_full_disk_of_an_actor_is_one_here_and_its_rows_are_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows_here(*_: object) -> Iterator[Row]:
        yield Row("0" * 16, "ok", probabilities={"nodule": 0.5})
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engine, "rows_here", rows_here)
    first, last = engine._Scorer(model, (), tmp_path, 1, 9.0)({"item": []})["row"]
    assert engine._row(first) == Row("0" * 16, "ok", probabilities={"nodule": 0.5})
    with pytest.raises(OSError, match="No space left") as told:
        engine._row(last)
    assert told.value.errno == errno.ENOSPC


def test_a_folder_that_an_actor_can_not_write_to_is_told_here(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows_here(*_: object) -> Iterator[Row]:
        yield Row("0" * 16, "ok", probabilities={"nodule": 0.5})
        raise UsageError("sr.dcm can't be written there")

    monkeypatch.setattr(engine, "rows_here", rows_here)
    _, last = engine._Scorer(model, (), tmp_path, 1, 9.0)({"item": []})["row"]
    with pytest.raises(UsageError, match="can't be written there"):
        engine._row(last)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "pipeline.scoring.ray")
    with pytest.raises(UsageError, match=r"pip install 'scanline\[cluster\]'"):
        __import__("pipeline.scoring.ray")


KILLED = """
import sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
from pipeline.scoring import ray as engine
from pipeline.scoring.folder import Request, score
from pipeline.scoring.journal import Journal

engine.CHUNK = 4
model, scans, out = map(Path, sys.argv[1:])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
journal, dead, append = out / "journal.jsonl", threading.Event(), Journal.append

def held(self, row):
    if len(self.rows) > 9:
        dead.wait(300)
    append(self, row)

def kill():
    while not journal.exists() or journal.read_bytes().count(b"\\n") < 9:
        time.sleep(0.01)
    cluster.remove_node(second, allow_graceful=False)
    dead.set()
    print("killed at", journal.read_bytes().count(b"\\n") - 1, flush=True)

Journal.append = held
threading.Thread(target=kill, daemon=True).start()
summary = score(Request(model, scans, out, workers=1, engine="ray", ray_address=cluster.address))
print("read", summary.read_now, flush=True)
cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_that_dies_in_the_middle_loses_nothing(model: Path, tmp_path: Path) -> None:
    scans = save_folder(tmp_path / "in", good=60)
    score(Request(model, scans, tmp_path / "local"))
    paths = [str(path) for path in (model, scans, tmp_path / "ray")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *paths], capture_output=True, text=True, check=False, timeout=500,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split("killed at ")[1].split()[0]) < 20, "it died too late to matter"
    assert "read 64" in done.stdout
    assert timeless(tmp_path / "ray") == timeless(tmp_path / "local")
