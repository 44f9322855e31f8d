"""Orthanc, a real PACS, in a network of its own: it listens on all interfaces, so that it may not have ours."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PLUGINS = Path("/usr/share/orthanc/plugins")
URL = "dicomweb://127.0.0.1:8042/dicom-web"
PASSWORD = "s3cret"
PROGRAMS = {"Orthanc": "orthanc", "ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
PRIVATE = (["--net"], ["--user", "--map-root-user", "--net"])
"""What unshare may be allowed to do: as root a network alone, else within a user namespace."""


def configuration(folder: Path) -> dict[str, object]:
    return {
        "Name": "TEST-PACS", "StorageDirectory": str(folder), "IndexDirectory": str(folder), "Plugins": [str(PLUGINS)],
        "HttpPort": 8042, "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
        "RegisteredUsers": {"viewer": PASSWORD}, "DicomPort": 4242, "DicomAet": "ORTHANC", "OverwriteInstances": True,
        "DicomModalities": {"scanline": ["SCANLINE", "127.0.0.1", 11112]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network with nothing but its own loopback.

    Attributes:
        pid: Of the process that holds it.
        kind: What `unshare` was given.
    """

    pid: int
    kind: list[str]

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command, to be run in this network."""
        user = ["--user", "--preserve-credentials"] if "--user" in self.kind else []
        return ["nsenter", "--target", str(self.pid), "--net", *user, "--", *command]


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    network: Network
    folder: Path

    def python(self, *words: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        """Run Python beside the PACS, with credentials for it."""
        surroundings = {
            **os.environ, "SCANLINE_PACS_USER": "viewer", "SCANLINE_PACS_PASSWORD": password, "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = self.network.inside([sys.executable, *words])
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=200, env=surroundings
        )  # fmt: skip


def missing(why: str) -> None:
    """Skip, or fail where CI has to have it."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{why}; CI may not go without")
    pytest.skip(why)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    absent = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if absent or not list(PLUGINS.glob("libOrthancDicomWeb*")):
        missing(f"no PACS to test with (apt-get install {' '.join(absent)} orthanc-dicomweb)")
    hold = "ip link set lo up && echo ready && exec sleep 3600"
    for kind in PRIVATE:
        holder = subprocess.Popen(["unshare", *kind, "sh", "-c", hold], stdout=subprocess.PIPE, text=True)
        if holder.stdout and holder.stdout.readline().strip() == "ready":
            yield Network(holder.pid, kind)
            holder.kill()
            holder.communicate()
            return
        holder.communicate()
    missing("no network namespace can be made here (unshare --net is not allowed), and Orthanc may not have ours")


@pytest.fixture(scope="session")
def orthanc(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("orthanc")
    (folder / "orthanc.json").write_text(json.dumps(configuration(folder)))
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(network.inside(["Orthanc", str(folder / "orthanc.json")]), stdout=log, stderr=log)
    running = Orthanc(network, folder)
    ask = "import socket; socket.create_connection(('127.0.0.1', 8042), 1).close()"
    for _ in range(100):
        if running.python("-c", ask).returncode == 0:
            break
        if server.poll() is not None:
            pytest.fail(f"Orthanc has ended: {(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.1)
    yield running
    server.terminate()
    server.wait(20)
