import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, Verification

from pipeline import receive
from pipeline.console import WRONG_USE
from pipeline.domain import UsageError
from pipeline.scans import boundary
from pipeline.scans import receiver as module
from pipeline.scans.find import survey
from pipeline.scans.receiver import MISMATCH, NOT_UNDERSTOOD, OUT_OF_RESOURCES, SUCCESS, Receiver
from tests.scans.fake_pacs import deflated_bomb, instances

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Receiver]:
    one = Receiver("SCANLINE", tmp_path / "in", min_free_bytes=0).start("127.0.0.1", 0)
    yield one
    one.stop()


def associate(port: int, called: str = "SCANLINE", calling: str = "SENDER"):
    entity = AE(ae_title=calling)
    entity.add_requested_context(Verification)
    entity.add_requested_context(CTImageStorage)
    return entity.associate("127.0.0.1", port, ae_title=called)


def send(port: int, *sent: pydicom.Dataset) -> list[int]:
    link = associate(port)
    assert link.is_established
    answers = [link.send_c_store(ds).Status for ds in sent]
    link.release()
    return answers


def test_what_is_pushed_becomes_a_scan(running: Receiver) -> None:
    assert send(running.port, *instances(4)) == [SUCCESS] * 4
    (scan,) = survey(running.folder).scans
    assert scan.n_slices == 4
    assert running.received == 4
    names = [str(path.relative_to(running.folder)) for path in running.folder.rglob("*.dcm")]
    assert all("CANARY" not in name and "1.2.3" not in name for name in names)
    assert send(running.port, *instances(4)) == [SUCCESS] * 4, "a second time replaces"
    assert len(list(running.folder.rglob("*.dcm"))) == 4
    assert not survey(running.folder).skipped


def test_a_sender_that_goes_on_does_not_keep_it_from_ending(running: Receiver) -> None:
    first, second = instances(2)
    link, idle = associate(running.port), associate(running.port)
    assert link.send_c_store(first).Status == SUCCESS
    assert idle.is_established
    began, folder = time.monotonic(), running.folder
    running.stop()
    assert time.monotonic() - began < 10
    with pytest.raises(RuntimeError, match="association with a peer SCP must be established"):
        link.send_c_store(second)
    idle.join(10)
    assert not idle.is_established
    assert not [thread for thread in threading.enumerate() if isinstance(thread, Association)]
    assert len(list(folder.rglob("*.dcm"))) == running.received == 1


def test_it_answers_an_echo_and_only_those_who_know_its_name(running: Receiver) -> None:
    link = associate(running.port)
    assert link.send_c_echo().Status == SUCCESS
    link.release()
    assert not associate(running.port, called="OTHER").is_established


def test_only_named_callers(tmp_path: Path) -> None:
    one = Receiver("SCANLINE", tmp_path, callers=["SCANNER1"], min_free_bytes=0).start("127.0.0.1", 0)
    try:
        assert not associate(one.port).is_established
        link = associate(one.port, calling="SCANNER1")
        assert link.is_established
        link.release()
    finally:
        one.stop()


@pytest.mark.parametrize("uid", ["../../../x", "a" * 8])
@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_names_that_lead_away_are_not_understood(running: Receiver, name: str, uid: str, tmp_path: Path) -> None:
    (ds,) = instances(1)
    setattr(ds, name, uid)
    assert send(running.port, ds) == [NOT_UNDERSTOOD]
    assert running.refused == {NOT_UNDERSTOOD: 1}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "MAX_INFLATED", 2**22)
    request = SimpleNamespace(AffectedSOPInstanceUID=instances(1)[0].SOPInstanceUID)
    bomb = deflated_bomb()
    event = SimpleNamespace(encoded_dataset=lambda: bomb, request=request)
    one = Receiver("SCANLINE", tmp_path, min_free_bytes=0)
    tracemalloc.start()
    try:
        assert one._store(event) == NOT_UNDERSTOOD
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert one.refused == {NOT_UNDERSTOOD: 1}


def test_an_instance_that_is_not_the_announced_one(running: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    (ds,) = instances(1)
    uids = iter(["1.2", "1.3", "1.4", "1.5"])
    monkeypatch.setattr(module, "checked_uid", lambda _: next(uids))
    assert send(running.port, ds) == [MISMATCH]


def test_a_full_disk_is_told_to_the_sender(running: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def refused(*_: object) -> None:
        raise UsageError("it can't be written there")

    for fail in (full, refused):
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_bytes", fail)
            assert send(running.port, *instances(1)) == [OUT_OF_RESOURCES]
    running.min_free_bytes = 2**60
    assert send(running.port, *instances(1)) == [OUT_OF_RESOURCES]
    running.min_free_bytes = 0
    assert send(running.port, *instances(1)) == [SUCCESS]


@pytest.mark.parametrize("title", ["", "   ", "x" * 17, "a\\b", "ä"])
def test_ae_titles_that_can_not_be(title: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected 1 to 16 printable ASCII characters"):
        Receiver(title, tmp_path).start("127.0.0.1", 0)


def test_a_folder_that_can_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"file/in: can't be made or written to \(Not a directory\); choose"):
        Receiver("SCANLINE", tmp_path / "file" / "in").start("127.0.0.1", 0)


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="choose another --port"):
            Receiver("SCANLINE", tmp_path).start("127.0.0.1", taken.getsockname()[1])
    assert receive.main([]) == WRONG_USE
    assert receive.DEMO in capsys.readouterr().err


@pytest.mark.parametrize(
    ("port", "free", "words"),
    [
        ("70000", "1", "--port is 70000, but needs 1 to 65535"),
        ("-1", "1", "--port is -1, but needs"),
        ("0", "nan", "--min-free-gb is nan, but needs 0 or more"),
    ],
)
def test_numbers_that_can_not_be(
    port: str, free: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--port", port, "--out", str(tmp_path / "in"), "--min-free-gb", free]
    assert receive.main(["--aet", "SCANLINE", *more]) == WRONG_USE
    assert words in capsys.readouterr().err


def test_the_command_listens_on_this_machine_alone_and_ends_cleanly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.receive", "--aet", "SCANLINE", "--port", "0", "--out", str(tmp_path)]
    running = subprocess.Popen(
        [*command, "--min-free-gb", "0"], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert running.stdout is not None
    said = running.stdout.readline()
    assert said.startswith("listening: SCANLINE on 127.0.0.1 port ")
    assert send(int(said.split("port ")[1].split(";")[0]), *instances(2)) == [SUCCESS] * 2
    running.send_signal(signal.SIGTERM)
    assert "2 files received" in running.communicate(timeout=60)[0]
    assert running.returncode == 0
