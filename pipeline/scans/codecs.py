"""Compressed frames, decoded in child processes that may crash, hang or run out of memory without harm to us."""

import atexit
import json
import math
import os
import queue
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from pipeline.domain import Reason, ScanError
from pipeline.scans import decoder
from pipeline.scans.decoder import Request
from pipeline.scans.streams import check_stream

Frame = NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")

CODECS = {
    "1.2.840.10008.1.2.4.50": "jpeg",
    "1.2.840.10008.1.2.4.51": "jpeg",
    "1.2.840.10008.1.2.4.57": "lossless_jpeg",
    "1.2.840.10008.1.2.4.70": "lossless_jpeg",
    "1.2.840.10008.1.2.4.80": "jpegls",
    "1.2.840.10008.1.2.4.81": "jpegls",
    "1.2.840.10008.1.2.4.90": "jpeg2k",
    "1.2.840.10008.1.2.4.91": "jpeg2k",
    "1.2.840.10008.1.2.4.201": "htj2k",
    "1.2.840.10008.1.2.4.202": "htj2k",
    "1.2.840.10008.1.2.4.203": "htj2k",
    "1.2.840.10008.1.2.5": "rle",
}
"""Transfer syntax -> decoder."""

TIMEOUT_S = 10.0
"""Longest time that one frame may take."""

LIFETIME = 2000
"""Frames after which a child is replaced, so that a leak in a codec stays small."""


def codec_of(syntax: UID) -> str:
    """The decoder of a transfer syntax.

    Raises:
        ScanError: unsupported_transfer_syntax, with the UID.
    """
    if syntax not in CODECS:
        raise ScanError(
            Reason.UNSUPPORTED_TRANSFER_SYNTAX,
            f"transfer syntax {str(syntax)[:64]} can't be decoded; convert the scan to an uncompressed or lossless one",
        )
    return CODECS[syntax]


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """What `function` gives for each item, in order; as many at a time as there are cores."""
    if len(items) == 1:
        yield function(items[0])
        return
    with ThreadPoolExecutor(cores()) as threads:
        for results in threads.map(lambda part: [function(item) for item in part], _parts(items, cores())):
            yield from results


def _parts(items: Sequence[T], workers: int) -> Iterator[Sequence[T]]:
    """Up to four items, as handing over takes time; fewer and fewer to the end, where all wait for the last one."""
    at = 0
    while at < len(items):
        few = min(4, -(-(len(items) - at) // (4 * workers)))
        yield items[at : at + few]
        at += few


def decode_frame(request: Request, encoded: bytes) -> Frame:
    """One decoded frame to keep; see `decoded`."""
    with decoded(request, encoded) as frame:
        return frame.copy()


@contextmanager
def decoded(request: Request, encoded: bytes) -> Iterator[Frame]:
    """One decoded frame: [row, column] or [row, column, 3] in the request's dtype.

    It lies where the decoder has put it: in large pictures a copy would be what takes most memory. The decoder's next
    frame overwrites it.

    Args:
        request: What `decoder.decode` needs to know of the frame.
        encoded: The compressed frame.

    Raises:
        ScanError: malformed, dims_mismatch, too_large, decoder_crash or timeout.
    """
    if request["codec"] != "rle":
        check_stream(encoded, request["rows"], request["columns"])
    with _POOL.child() as child:
        yield child.decode(request, encoded)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Child:
    """A running decoder process, and the memory that it shares with us."""

    def __init__(self) -> None:
        self._shared = _unnamed_file()
        self._memory = mmap(-1, 1)
        # -P: the script's own folder holds modules with names of the standard library
        command = [sys.executable, "-P", str(Path(decoder.__file__)), str(self._shared)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=[self._shared],
            bufsize=0,
        )
        self._answers = select.poll()
        self._answers.register(_pipes(self._process)[1], select.POLLIN)
        self.left = LIFETIME
        self.broken = False

    def decode(self, request: Request, encoded: bytes) -> Frame:
        """One frame, there until the next; the child is marked as broken when it did not answer.

        Raises:
            ScanError: As `decoded`.
        """
        self.left -= 1
        dtype, shape = np.dtype(request["dtype"]), (request["rows"], request["columns"], request["samples"])
        self._make_room(max(len(encoded), math.prod(shape) * dtype.itemsize))
        self._memory[: len(encoded)] = encoded
        note = self._ask({**request, "encoded": len(encoded), "memory": len(self._memory)})
        if "error" in note:
            raise ScanError(Reason(note["error"]), f"a compressed frame can't be decoded as {request['codec']}")
        frame: Frame = np.frombuffer(self._memory, dtype, math.prod(shape)).reshape(shape)
        return frame if request["samples"] == 3 else frame[..., 0]

    def _make_room(self, n_bytes: int) -> None:
        if n_bytes > decoder.MEMORY // 2:
            raise ScanError(Reason.TOO_LARGE, f"a frame of {n_bytes} bytes; at most {decoder.MEMORY // 2} are decoded")
        if n_bytes > len(self._memory):
            os.ftruncate(self._shared, n_bytes)
            self._memory = mmap(self._shared, n_bytes)

    def _ask(self, request: Request) -> dict[str, str]:
        """The child's answer, which is one line.

        Raises:
            ScanError: decoder_crash or timeout.
        """
        stdin, stdout = _pipes(self._process)
        self.broken = True  # until it has answered
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
        except OSError:
            raise _crash() from None
        if not self._answers.poll(TIMEOUT_S * 1000):
            raise ScanError(Reason.TIMEOUT, f"a compressed frame took longer than {TIMEOUT_S:g} s")
        line = os.read(stdout.fileno(), 1024)
        if not line.endswith(b"\n"):
            raise _crash()
        self.broken = False
        note: dict[str, str] = json.loads(line)
        return note

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in _pipes(self._process):
            pipe.close()
        self._process.wait()
        os.close(self._shared)


def _unnamed_file() -> int:
    """Descriptor of an empty file without a name: in memory where the system has that, else in the temporary folder."""
    if sys.platform == "linux":
        return os.memfd_create("frame")
    with TemporaryFile() as file:
        return os.dup(file.fileno())


def _crash() -> ScanError:
    return ScanError(Reason.DECODER_CRASH, "the decoder died of a compressed frame")


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise EOFError
    return process.stdin, process.stdout


class Pool:
    """Children that wait for work; each serves one caller at a time."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._parents = self._idle
        self._owner = os.getpid()

    @contextmanager
    def child(self) -> Iterator[Child]:
        """A child, started if none is idle; it comes back to the pool if it still answers."""
        if self._owner != os.getpid():  # after a fork the pipes belong to the parent
            self._parents, self._idle, self._owner = self._idle, queue.SimpleQueue(), os.getpid()
        try:
            child = self._idle.get_nowait()
        except queue.Empty:
            child = Child()
        try:
            yield child
        finally:
            if child.broken or child.left <= 0:
                child.stop()
            else:
                self._idle.put(child)

    def close(self) -> None:
        """End all idle children."""
        while self._owner == os.getpid() and not self._idle.empty():
            self._idle.get_nowait().stop()


_POOL = Pool()
atexit.register(_POOL.close)
