"""A small DICOMweb server in this process, whose faults a test chooses."""

import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.scans.phantoms import dicom, pixels

STUDY, SERIES, OTHER = "1.2.3", "1.2.3.4", "1.2.3.5"
BOUNDARY = b"frontier"

Answer = Callable[["Handler"], bool]
"""A fault: answers a request itself and returns True, or leaves it to the server."""


def instances(count: int = 6, series: str = SERIES) -> list[Dataset]:
    found = []
    for k, stored in enumerate(pixels(count)):
        ds = dicom(stored, (0, 0, 2.5 * k))
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = STUDY, series, k + 1
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series}.{k + 1}"
        ds.StudyDate, ds.FrameOfReferenceUID = "20260105", "1.2.9"
        found.append(ds)
    return found


def encoded(ds: Dataset) -> bytes:
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def deflated_bomb() -> bytes:
    """A deflated image with a private element of 32 MiB of zeros, in some 32 KiB."""
    (ds,) = instances(1)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.private_block(0x0009, "BOMB", create=True).add_new(1, "OB", bytes(2**25))
    return encoded(ds)


def deflated_giant(gibibytes: int) -> bytes:
    """A deflated image with as many GiB of zeros, in 1 MB each: one MiB is deflated, and stands there many times."""
    (ds,) = instances(1)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = encoded(ds)
    meta = 144 + struct.unpack_from("<I", whole, 140)[0]  # preamble, DICM, and the element of that length (PS3.10 7.1)
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(whole[meta:])
    head = inflated + struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, gibibytes * 2**30)
    begun = engine.compress(head) + engine.flush(zlib.Z_FULL_FLUSH)
    mebibyte = engine.compress(bytes(2**20)) + engine.flush(zlib.Z_FULL_FLUSH)
    return whole[:meta] + begun + mebibyte * (1024 * gibibytes) + engine.flush()


def part(body: bytes, boundary: bytes = BOUNDARY) -> bytes:
    return b"\r\n--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n" + body


def multipart(bodies: list[bytes], boundary: bytes = BOUNDARY) -> bytes:
    return b"".join(part(body, boundary) for body in bodies) + b"\r\n--" + boundary + b"--\r\n"


class Server(ThreadingHTTPServer):
    """The server, what it holds, and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.instances = instances()
        self.page = 1000
        self.counted: int | None = None
        self.faults: list[Answer] = []
        self.asked: list[str] = []
        self.clients: list[Any] = []
        self.stored: list[Dataset] = []
        self.authorizations: list[str | None] = []

    def handle_error(self, request: object, address: object) -> None:
        """Clients that hang up are what these tests are about."""

    @property
    def address(self) -> str:
        return f"dicomweb://127.0.0.1:{self.server_port}/dicom-web"


class Handler(BaseHTTPRequestHandler):
    """QIDO-RS, WADO-RS and STOW-RS, as far as these tests need them."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.authorizations.append(self.headers.get("Authorization"))
        while self.server.faults:
            if self.server.faults[0](self):
                return
            break
        parts = urlsplit(self.path)
        steps = parts.path.removeprefix("/dicom-web/").split("/")
        asked = {key: value[0] for key, value in parse_qs(parts.query).items()}
        if steps[-1] in ("studies", "series", "instances"):
            self.search(steps[-1], int(asked.get("offset", 0)), int(asked.get("limit", 1000)))
        elif "instances" in steps:
            chosen = [ds for ds in self.server.instances if ds.SOPInstanceUID == steps[-1]]
            self.parts([encoded(ds) for ds in chosen])
        else:
            self.parts([encoded(ds) for ds in self.server.instances])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for part in body.split(b"--0f3cf5c0-70e0-41ef-baef-c6f9f65ec3e1"):
            if b"DICM" in part:
                self.server.stored.append(pydicom.dcmread(BytesIO(part.split(b"\r\n\r\n", 1)[1])))
        while self.server.faults:
            if self.server.faults[0](self):
                return
            break
        references = [{"00081155": {"vr": "UI", "Value": [ds.SOPInstanceUID]}} for ds in self.server.stored]
        self.json({"00081199": {"vr": "SQ", "Value": references}})

    def search(self, level: str, offset: int, limit: int) -> None:
        count = self.server.counted if self.server.counted is not None else len(self.server.instances)
        results: list[dict[str, Any]] = [
            {"0020000D": ui(STUDY), "00080020": {"vr": "DA", "Value": ["20260105"]}, "00100020": lo("CANARY-ID")}
        ]
        if level == "series":
            results = [
                {"0020000E": ui(SERIES), "00080060": cs("CT"), "00201209": {"vr": "IS", "Value": [count]}},
                {"0020000E": ui(OTHER), "00080060": cs("SR")},
                {"0020000E": ui(OTHER + ".1"), "00080060": cs("MR")},
            ]
        if level == "instances":
            results = [{"00080018": ui(str(ds.SOPInstanceUID))} for ds in self.server.instances]
        self.json(results[offset : offset + min(limit, self.server.page)])

    def json(self, value: object) -> None:
        self.reply(json.dumps(value).encode(), "application/dicom+json")

    def parts(self, bodies: list[bytes]) -> None:
        kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}'
        self.reply(multipart(bodies), kind)

    def reply(
        self, body: bytes, kind: str, status: int = 200, length: int | None = None, **headers: str
    ) -> None:  # fmt: skip
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    @property
    def is_retrieval(self) -> bool:
        return "?" not in self.path and self.command == "GET"

    def hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


def ui(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]}


def cs(value: str) -> dict[str, Any]:
    return {"vr": "CS", "Value": [value]}


def lo(value: str) -> dict[str, Any]:
    return {"vr": "LO", "Value": [value]}


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port, for as long as the block runs."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
