"""The whole way with a real PACS: query, retrieve, score, store the results, find them again."""

import json
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import pandas as pd
import pydicom
import pytest

from data.phantoms import make_demo
from pipeline.scans.find import survey
from tests.pacs.conftest import URL, Orthanc
from tests.scoring.scenes import save_tiny_model

pytestmark = [pytest.mark.pacs, pytest.mark.slow]

FILL = """
import sys
from pipeline import find_scans
from pipeline.scans.pacs import Pacs
scans = [scan for scan in find_scans(sys.argv[1])[0] if scan.kind == "dicom"]
with Pacs.at(sys.argv[2]) as pacs:
    for scan in scans:
        pacs.store(scan.paths)
print(len(scans))
"""
LOOK = """
import json, os, sys
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
session = create_session_from_user_pass("viewer", os.environ["SCANLINE_PACS_PASSWORD"])
client = DICOMwebClient(sys.argv[1].replace("dicomweb", "http", 1), session=session)
found = []
for modality in ("SR", "OT"):
    for one in client.search_for_instances(search_filters={"Modality": modality}):
        uids = [one[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
        client.retrieve_instance(*uids).save_as(f"{sys.argv[2]}/{modality}-{len(found)}.dcm")
        found.append((modality, *uids))
print(json.dumps(found))
"""
PUSH = """
import os, requests
session = requests.Session()
session.auth = ("viewer", os.environ["SCANLINE_PACS_PASSWORD"])
series = session.get("http://127.0.0.1:8042/series", timeout=10).json()
modalities = {one: session.get(f"http://127.0.0.1:8042/series/{one}", timeout=10).json() for one in series}
wanted = [one for one, told in modalities.items() if told["MainDicomTags"]["Modality"] == "CT"]
answer = session.post("http://127.0.0.1:8042/modalities/scanline/store", json=wanted, timeout=60)
assert answer.status_code == 200 and answer.json()["FailedInstancesCount"] == 0, answer.text
print(sum(len(modalities[one]["Instances"]) for one in wanted))
"""


@pytest.fixture(scope="module")
def filled(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> int:
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder, seed=0, patients=4, small=True)
    done = orthanc.python("-c", FILL, str(folder / "scans"), URL)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_query_retrieve_score_store_and_find_again(orthanc: Orthanc, filled: int, tmp_path: Path) -> None:
    model, out = save_tiny_model(tmp_path / "model"), tmp_path / "out"
    command = ["-m", "pipeline.score", str(model), URL, "--out", str(out), "--query", "Modality=CT", "--store"]
    done = orthanc.python(*command)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    table = pd.read_csv(out / "predictions.csv")
    scored = table[table["status"] == "ok"]
    assert 0 < len(scored) <= filled
    assert f"of {len(scored)} scans now, of 0 before" in done.stdout

    looked = orthanc.python("-c", LOOK, URL, str(tmp_path))
    assert looked.returncode == 0, looked.stderr
    found = json.loads(looked.stdout)
    assert sorted(modality for modality, *_ in found) == ["OT"] * len(scored) + ["SR"] * len(scored)
    said = sorted(
        hd.sr.srread(path).content.get_image_measurement_groups()[0].get_measurements()[0].value
        for path in tmp_path.glob("SR-*.dcm")
    )
    assert said == pytest.approx(sorted(100 * scored["p_nodule"]), abs=1e-3)
    sources = {str(pydicom.dcmread(path).StudyInstanceUID) for path in (out / "scans").rglob("*.dcm")}
    assert {study for _, study, *_ in found} <= sources, "results belong to the studies that they come from"

    again = orthanc.python(*command)
    assert f"of 0 scans now, of {len(scored)} before" in again.stdout
    for proof in out.glob("dicom/*/stored.json"):
        proof.unlink()
    assert f"of {len(scored)} scans now" in orthanc.python(*command).stdout
    assert json.loads(orthanc.python("-c", LOOK, URL, str(tmp_path)).stdout) == found, "no result is there twice"


def test_a_wrong_password_is_told_and_not_shown(orthanc: Orthanc, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    command = ["-m", "pipeline.score", str(model), URL, "--out", str(tmp_path / "out"), "--query", "Modality=CT"]
    done = orthanc.python(*command, password="wr0ng")
    assert done.returncode == 2
    assert "pacs_denied" in done.stderr
    assert "wr0ng" not in done.stderr + done.stdout


def test_what_the_pacs_pushes_is_received(orthanc: Orthanc, filled: int, tmp_path: Path) -> None:
    command = ["-m", "pipeline.receive", "--aet", "SCANLINE", "--port", "11112", "--out", str(tmp_path / "in")]
    inside = orthanc.network.inside([sys.executable, "-u", *command])
    receiver = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    assert receiver.stdout.readline().startswith("listening: SCANLINE on 127.0.0.1 port 11112")
    pushed = orthanc.python("-c", PUSH)
    receiver.terminate()
    said = receiver.communicate(timeout=60)[0]
    assert pushed.returncode == 0, pushed.stderr
    assert f"{int(pushed.stdout)} files received" in said
    assert receiver.returncode == 0
    found = survey(tmp_path / "in")
    assert len(found.scans) > 0
    assert sum(len(scan.paths) for scan in found.scans) == int(pushed.stdout)
