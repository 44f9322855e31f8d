"""Class J of the bad input: what a PACS may do wrong, each with its reason and message, and never half a series."""

import gzip
import hashlib
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pydicom
import pytest

from pipeline.domain import Reason, ScanError, UsageError
from pipeline.scans import pacs_session
from pipeline.scans.find import survey
from pipeline.scans.pacs import Pacs, Query, Series
from pipeline.scans.pacs_query import http_url, is_address, matches
from pipeline.scans.pacs_session import Limits
from tests.scans.fake_pacs import (
    BOUNDARY,
    OTHER,
    SERIES,
    STUDY,
    Answer,
    Handler,
    Server,
    deflated_giant,
    encoded,
    instances,
    multipart,
    serving,
)

CT = Query.parsed("Modality=CT&StudyDate=20260101-20260131")
PARTS = f"multipart/related; boundary={BOUNDARY.decode()}"
WANTED = Series(STUDY, SERIES, "CT", n_instances=6)
QUICK = Limits(
    attempts=3, connect_s=10, silence_s=15, request_s=60, slow_s=15, wait_s=1, pause_s=0.01,
    part_bytes=2**20, answer_bytes=2**22,
)  # fmt: skip
IMPATIENT = replace(QUICK, silence_s=0.3, slow_s=0.2)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
        for client in running.clients:
            client.__exit__()


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SCANLINE_PACS_USER", "SCANLINE_PACS_PASSWORD", "SCANLINE_PACS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def pacs(server: Server, limits: Limits = QUICK) -> Pacs:
    server.clients.append(Pacs.at(server.address, limits))
    return server.clients[-1]


def refused(server: Server, folder: Path, reason: Reason, match: str, limits: Limits = QUICK) -> None:
    """The series is refused for the reason, and nothing of it is kept."""
    with pytest.raises(ScanError, match=match) as caught:
        pacs(server, limits).retrieve(WANTED, folder)
    assert caught.value.reason is reason
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert "127.0.0.1" not in caught.value.detail


def test_studies_and_series_are_listed_and_a_series_is_retrieved(server: Server, tmp_path: Path) -> None:
    found = pacs(server)
    (study,) = found.list_studies(CT)
    assert (study.study_uid, study.date, study.patient_id) == (STUDY, "20260105", "CANARY-ID")
    assert "CANARY" not in repr(study)
    (series,) = found.list_series(study, CT)
    assert series == WANTED
    folder = found.retrieve(series, tmp_path)
    (scan,) = survey(tmp_path).scans
    assert (scan.path, scan.n_slices) == (folder, 6)
    sent = {hashlib.sha256(ds.PixelData).digest() for ds in server.instances}
    assert {hashlib.sha256(pydicom.dcmread(path).PixelData).digest() for path in folder.iterdir()} == sent
    assert not any(word in str(folder) for word in (STUDY, SERIES, "CANARY"))


def test_what_is_there_is_not_retrieved_again_unless_the_series_has_grown(server: Server, tmp_path: Path) -> None:
    pacs(server).retrieve(WANTED, tmp_path)
    server.asked.clear()
    pacs(server).retrieve(WANTED, tmp_path)
    assert all("/instances?" in path for path in server.asked)
    server.instances = instances(8)
    assert len(list(pacs(server).retrieve(WANTED, tmp_path).iterdir())) == 8


def test_j1_connection_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = Pacs.at(f"dicomweb://127.0.0.1:{taken.getsockname()[1]}/x", QUICK)
        with pytest.raises(ScanError, match="no connection to the PACS: is the address right") as caught:
            nobody.list_studies(CT)
    assert caught.value.reason is Reason.PACS_UNREACHABLE


def test_j2_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ScanError, match="pacs_unreachable: no connection"):
        Pacs.at("dicomweb://pacs.invalid/x", QUICK).list_studies(CT)


def dropping(after: int) -> Answer:
    """Hang up in the middle of instance number `after`."""

    def fault(handler: Handler) -> bool:
        if not handler.is_retrieval:
            return False
        body = multipart([encoded(ds) for ds in handler.server.instances])
        handler.reply(body[: len(body) * after // 6 - 50], PARTS, length=len(body))
        handler.hang_up()
        return True

    return fault


def test_j3_a_drop_is_taken_up_where_it_ended(server: Server, tmp_path: Path) -> None:
    def once(handler: Handler) -> bool:
        if handler.is_retrieval:
            server.faults.clear()
            return dropping(5)(handler)
        return False

    server.faults = [once]
    assert len(list(pacs(server).retrieve(WANTED, tmp_path).iterdir())) == 6
    singly = [path for path in server.asked if "/instances/" in path]
    assert 1 <= len(singly) <= 2, "only what was missing is asked for again"


def test_j3_a_connection_that_always_drops(server: Server, tmp_path: Path) -> None:
    server.faults = [dropping(1)]
    refused(server, tmp_path, Reason.PACS_INCOMPLETE, "the connection ended before the answer did")


@pytest.fixture
def given_up() -> Iterator[Event]:
    """Set once the client has given up, or the test has failed: until then a fault goes on."""
    event = Event()
    yield event
    event.set()


def test_j4_silence(server: Server, given_up: Event, tmp_path: Path) -> None:
    def silent(handler: Handler) -> bool:
        if handler.is_retrieval:
            handler.send_response(200)
            handler.send_header("Content-Type", PARTS)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            given_up.wait(60)
        return handler.is_retrieval

    server.faults = [silent]
    refused(server, tmp_path, Reason.PACS_TIMEOUT, "does not answer in time", IMPATIENT)


def test_j5_one_byte_after_the_other(server: Server, given_up: Event, tmp_path: Path) -> None:
    def drip(handler: Handler) -> bool:
        if handler.is_retrieval:
            handler.reply(b"", PARTS, length=100_000)
            while not given_up.wait(0.02):
                handler.wfile.write(b"x")
                handler.wfile.flush()
        return handler.is_retrieval

    server.faults = [drip]
    refused(server, tmp_path, Reason.PACS_TIMEOUT, r"\d+ bytes came in \d+ s; the PACS is too slow", IMPATIENT)


@pytest.mark.parametrize("status", [429, 503])
def test_j6_it_waits_as_it_is_told(server: Server, status: int, tmp_path: Path) -> None:
    def busy(handler: Handler) -> bool:
        server.faults.clear()
        handler.reply(b"", "text/plain", status, Retry_After="1")
        return True

    server.faults = [busy]
    started = time.monotonic()
    assert len(pacs(server).list_studies(CT)) == 1
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("said", ["soon", "-5", "Wed, 01 Jan 99999999999 00:00:00 GMT", "9" * 5000])
def test_j6_a_wait_that_can_not_be_read_is_our_own(server: Server, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append, monotonic=time.monotonic)
    monkeypatch.setattr(pacs_session, "time", clock)  # the client's alone: servers of other tests may still sleep

    def busy(handler: Handler) -> bool:
        if len(server.asked) == 2:  # before the answer, which the client follows at once with the next request
            server.faults.clear()
        handler.reply(b"", "text/plain", 503, Retry_After=said)
        return True

    server.faults = [busy]
    assert len(pacs(server).list_studies(CT)) == 1
    assert waited == [QUICK.pause_s, 2 * QUICK.pause_s]


def test_j6_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    server.faults = [lambda handler: handler.reply(b"", "text/plain", 503, Retry_After="3600") or True]
    refused(server, tmp_path, Reason.PACS_UNREACHABLE, "asks to wait 3600 s; at most 1 s")
    server.faults = [lambda handler: handler.reply(b"", "text/plain", 503) or True]
    server.asked.clear()
    refused(server, tmp_path, Reason.PACS_UNREACHABLE, r"busy \(HTTP 503\)")
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_j7_access_refused_is_not_tried_again_and_nothing_tells_the_credentials(
    server: Server, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SCANLINE_PACS_USER", "someone")
    monkeypatch.setenv("SCANLINE_PACS_PASSWORD", "s3cret")
    server.faults = [lambda handler: handler.reply(b"", "text/plain", status) or True]
    with caplog.at_level(logging.DEBUG):
        refused(server, tmp_path, Reason.PACS_DENIED, rf"refuses access \(HTTP {status}\): put credentials")
    assert len(server.asked) == 1
    assert server.authorizations == ["Basic c29tZW9uZTpzM2NyZXQ="]
    assert caplog.text == ""


def test_j7_credentials_from_netrc_or_a_token(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password s3cret\n")
    (tmp_path / "netrc").chmod(0o600)
    pacs(server).list_studies(CT)
    monkeypatch.setenv("SCANLINE_PACS_TOKEN", "abc")
    pacs(server).list_studies(CT)
    assert {*server.authorizations} == {"Basic c29tZW9uZTpzM2NyZXQ=", "Bearer abc"}


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that only its maker vouches for, and its key."""
    certificate, key = folder / "pacs.crt", folder / "pacs.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: no certificate can be made")
def test_j8_a_certificate_that_nobody_vouches_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = own_certificate(tmp_path)
    with serving() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        address = server.address.replace("dicomweb:", "dicomwebs:")
        with (
            Pacs.at(address, QUICK) as found,
            pytest.raises(ScanError, match="certificate of the PACS is not trusted") as caught,
        ):
            found.list_studies(CT)
        assert caught.value.reason is Reason.PACS_DENIED
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with Pacs.at(address, QUICK) as found:
            assert len(found.list_studies(CT)) == 1
        monkeypatch.setenv("SCANLINE_PACS_TOKEN", "abc")
        with Pacs.at(address, QUICK) as found:
            assert len(found.list_studies(CT)) == 1


def answering(body: bytes, kind: str, **headers: str) -> Answer:
    def fault(handler: Handler) -> bool:
        if handler.is_retrieval:
            handler.reply(body, kind, **headers)
        return handler.is_retrieval

    return fault


def test_j8_a_handshake_that_breaks_is_no_matter_of_certificates() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        callers = list[int]()

        def hang_up() -> None:
            while len(callers) < 3:
                caller, _ = listening.accept()
                callers.append(len(caller.recv(4096)))
                caller.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        address = f"dicomwebs://127.0.0.1:{listening.getsockname()[1]}/x"
        with Pacs.at(address, QUICK) as broken, pytest.raises(ScanError, match="TLS with the PACS failed") as caught:
            broken.list_studies(CT)
        thread.join()
    assert caught.value.reason is Reason.PACS_UNREACHABLE
    assert len(callers) == 3, "it is tried again"


def test_j8_https_where_there_is_none(server: Server) -> None:
    address = server.address.replace("dicomweb:", "dicomwebs:")
    with Pacs.at(address, QUICK) as other, pytest.raises(ScanError, match="does it take https") as caught:
        other.list_studies(CT)
    assert caught.value.reason is Reason.PACS_UNREACHABLE


def test_j8_certificates_that_are_not_there(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match="REQUESTS_CA_BUNDLE names no file"):
        Pacs.at(server.address, QUICK).list_studies(CT)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (multipart([b"not dicom"]), "multipart/related"),
        (multipart([b"not dicom"]), PARTS),
        (b"\r\n--" + BOUNDARY + multipart([b"x"]), PARTS),
        (b"<html>Please log in</html>", "text/html"),
    ],
)
def test_j9_boundaries_missing_or_doubled(server: Server, body: bytes, kind: str, tmp_path: Path) -> None:
    server.faults = [answering(body, kind)]
    refused(server, tmp_path, Reason.PACS_MALFORMED, "the answer of the PACS")


def test_j10_an_instance_of_another_series(server: Server, tmp_path: Path) -> None:
    foreign = instances(6)[:5] + instances(1, OTHER)
    server.faults = [answering(multipart([encoded(ds) for ds in foreign]), PARTS)]
    refused(server, tmp_path, Reason.PACS_WRONG_INSTANCE, "SeriesInstanceUID is another one")


def test_j10_an_instance_that_is_not_listed(server: Server, tmp_path: Path) -> None:
    more = [encoded(ds) for ds in instances(7)]
    server.faults = [answering(multipart(more), PARTS)]
    refused(server, tmp_path, Reason.PACS_WRONG_INSTANCE, "does not list for the series")


def test_j11_fewer_than_counted(server: Server, tmp_path: Path) -> None:
    server.instances = instances(5)
    refused(server, tmp_path, Reason.PACS_INCOMPLETE, "lists 5 instances and counts 6")


def test_j11_fewer_than_listed(server: Server, tmp_path: Path) -> None:
    few = [encoded(ds) for ds in server.instances[:2]]
    server.faults = [answering(multipart(few), PARTS)]
    refused(server, tmp_path, Reason.PACS_INCOMPLETE, "2 of 6 instances came")


def test_j12_a_length_that_lies(server: Server, tmp_path: Path) -> None:
    body = multipart([encoded(ds) for ds in server.instances])

    def short(handler: Handler) -> bool:
        if handler.is_retrieval:
            handler.reply(body, PARTS, length=len(body) // 2)
            handler.close_connection = True
        return handler.is_retrieval

    server.faults = [short]
    refused(server, tmp_path, Reason.PACS_INCOMPLETE, "ends before its last boundary")


def test_j12_a_body_without_end(server: Server, tmp_path: Path) -> None:
    def endless(handler: Handler) -> bool:
        if handler.is_retrieval:
            handler.reply(b"", PARTS, length=10 * 2**30)
            for _ in range(100):
                handler.wfile.write(bytes(2**20))
        return handler.is_retrieval

    server.faults = [endless]
    refused(server, tmp_path, Reason.TOO_LARGE, "more than 1048576 bytes at once")


def test_j13_a_bomb(server: Server, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(2**26))
    server.faults = [answering(bomb, PARTS, Content_Encoding="gzip")]
    refused(server, tmp_path, Reason.TOO_LARGE, "more than 1048576 bytes at once")


@pytest.mark.parametrize("kind", [PARTS, "multipart/related", "application/dicom", "application/dicom+json"])
def test_j13_a_deflated_bomb(server: Server, kind: str, tmp_path: Path) -> None:
    bomb = deflated_giant(2)
    server.faults = [answering(multipart([bomb]) if kind == PARTS else bomb, kind)]
    tracemalloc.start()
    try:
        refused(server, tmp_path, Reason.TOO_LARGE, "would grow to", replace(QUICK, part_bytes=2**23))
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_j14_a_uid_that_leads_away(server: Server, tmp_path: Path) -> None:
    for uid in ("../../x", ".."):
        server.instances[2].SOPInstanceUID = uid
        refused(server, tmp_path / "in", Reason.MALFORMED, "something that is no UID")
    server.instances = instances()
    bad = instances()
    bad[2].SOPInstanceUID = "../../x"
    server.faults = [answering(multipart([encoded(ds) for ds in bad]), PARTS)]
    refused(server, tmp_path / "in", Reason.MALFORMED, "something that is no UID")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_j15_one_instance_without_multipart(server: Server, tmp_path: Path) -> None:
    server.instances = instances(1)
    server.faults = [answering(encoded(server.instances[0]), "application/dicom")]
    only = Series(STUDY, SERIES, "CT", n_instances=1)
    assert len(list(pacs(server).retrieve(only, tmp_path).iterdir())) == 1


@pytest.mark.parametrize("size", [1, 4, 6])
def test_j16_pages_are_read_to_their_end(server: Server, size: int, tmp_path: Path) -> None:
    server.page = size
    assert len(list(pacs(server).retrieve(WANTED, tmp_path).iterdir())) == 6


def test_j15_a_whole_series_of_which_only_one_instance_comes(server: Server, tmp_path: Path) -> None:
    def only_one(handler: Handler) -> bool:
        if not handler.is_retrieval or "instances" in handler.path:
            return False
        handler.reply(encoded(server.instances[0]), "application/dicom")
        return True

    server.faults.append(only_one)
    assert len(list(pacs(server).retrieve(WANTED, tmp_path).iterdir())) == 6
    assert sum("/instances/" in path for path in server.asked) == 5, "the others are asked for one by one"


def test_j16_a_server_that_always_gives_its_first_page(server: Server, tmp_path: Path) -> None:
    def first(handler: Handler) -> bool:
        if "/instances?" in handler.path:
            handler.search("instances", 0, 4)
        return "/instances?" in handler.path

    server.faults = [first]
    refused(server, tmp_path, Reason.PACS_INCOMPLETE, "lists 4 instances and counts 6")


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://other.invalid/", "//other.invalid/x"])
def test_j17_redirects_to_other_servers_are_not_followed(server: Server, target: str, tmp_path: Path) -> None:
    server.faults = [lambda handler: handler.reply(b"", "text/plain", 302, Location=target) or True]
    refused(server, tmp_path, Reason.PACS_MALFORMED, "redirects to another server; that is not followed")
    assert len(server.asked) == 1


def test_j17_redirects_on_the_same_server_are_followed(server: Server) -> None:
    def once(handler: Handler) -> bool:
        server.faults.clear()
        handler.reply(b"", "text/plain", 302, Location=handler.path)
        return True

    server.faults = [once]
    assert len(pacs(server).list_studies(CT)) == 1


def test_any_other_answer_is_told_by_its_number(server: Server, tmp_path: Path) -> None:
    server.faults = [lambda handler: handler.reply(b"CANARY", "text/plain", 500) or True]
    refused(server, tmp_path, Reason.PACS_MALFORMED, r"can't answer the request \(HTTP 500\)$")


def test_a_full_disk_is_no_fault_of_the_series(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.scans.pacs.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        pacs(server).retrieve(WANTED, tmp_path)


def test_results_are_stored_and_confirmed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(encoded(instances(1)[0]))
    pacs(server).store([tmp_path / "a.dcm"])
    assert [str(ds.SOPInstanceUID) for ds in server.stored] == [f"{SERIES}.1"]


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ({"00081198": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]}}, "refused 1 of 1"),
        ({}, "does not confirm 1 of 1"),
    ],
)
def test_results_that_are_not_stored_are_told(
    server: Server, answer: dict[str, object], match: str, tmp_path: Path
) -> None:
    (tmp_path / "a.dcm").write_bytes(encoded(instances(1)[0]))
    server.faults = [lambda handler: handler.json(answer) or True]
    with pytest.raises(ScanError, match=match):
        pacs(server).store([tmp_path / "a.dcm"])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "it is empty"),
        ("Modality=", "Modality is empty"),
        ("Colour=red", "Colour is not known. Expected Attribute=value"),
        ("Modality=CT&Modality=MR", "Modality is given twice"),
        ("StudyDate=2026-01-01", "StudyDate must be YYYYMMDD"),
    ],
)
def test_queries_that_can_not_be_meant(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Query.parsed(text)


def test_addresses() -> None:
    assert http_url("dicomweb://host:8042/dicom-web/") == "http://host:8042/dicom-web"
    assert http_url("dicomweb:/host:8042/dicom-web") == "http://host:8042/dicom-web"  # as a path has it
    assert http_url("dicomwebs://host/x") == http_url("dicomweb+https://host/x") == "https://host/x"
    assert not is_address("/data/scans")
    assert is_address("dicomweb:/host")
    for address in ("dicomweb://user:pass@host/x", "dicomweb://host/x?y=1"):
        with pytest.raises(UsageError, match="must be host, port and path only"):
            http_url(address)
    with pytest.raises(UsageError, match="no valid port"):
        http_url("dicomweb://host:port/x")
    with pytest.raises(UsageError, match="a PACS is named dicomweb://host"):
        http_url("https://host/x")
    assert Pacs.at("dicomweb://host/x").is_open
    assert not Pacs.at("dicomwebs://host/x").is_open
    assert not Pacs.at("dicomweb://127.0.0.1/x").is_open


@pytest.mark.parametrize(
    ("wanted", "found", "fits"),
    [
        ("CT", "CT", True),
        ("CT", "MR", False),
        ("C*", "MR", True),
        ("20260101-20260131", "20260201", False),
        ("20260101-", "20260201", True),
        ("-20260101", "20260201", False),
        ("CT", "", True),
    ],
)
def test_what_a_server_gives_is_compared_with_what_was_asked(wanted: str, found: str, fits: bool) -> None:
    assert matches(wanted, found) is fits
