"""Compressed frames, decoded in child processes that may crash, hang or run out of memory without harm to us."""

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from pipeline.domain import Reason, ScanError
from pipeline.scans import decoder
from pipeline.scans.decoder import LENGTHS, Request
from pipeline.scans.streams import check_stream

Frame = NDArray[Any]
T = TypeVar("T")

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


def in_parallel(function: Callable[[T], Frame], items: Sequence[T]) -> Iterator[Frame]:
    """What `function` gives for each item, in order; as many at a time as there are cores."""
    if len(items) == 1:
        yield function(items[0])
        return
    with ThreadPoolExecutor(cores()) as threads:
        yield from threads.map(function, items)


def decode_frame(request: Request, encoded: bytes) -> Frame:
    """One decoded frame: [row, column] or [row, column, 3] in the request's dtype.

    Args:
        request: What `decoder.decode` needs to know of the frame.
        encoded: The compressed frame.

    Raises:
        ScanError: malformed, dims_mismatch, too_large, decoder_crash or timeout.
    """
    if request["codec"] != "rle":
        check_stream(encoded, request["rows"], request["columns"])
    with _POOL.child() as child:
        return child.decode(request, encoded)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Child:
    """A running decoder process."""

    def __init__(self) -> None:
        # -P: the script's own folder holds modules with names of the standard library
        command = [sys.executable, "-P", str(Path(decoder.__file__))]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self.left = LIFETIME
        self.broken = False

    def decode(self, request: Request, encoded: bytes) -> Frame:
        """One frame; the child is marked as broken when it did not answer.

        Raises:
            ScanError: As `decode_frame`.
        """
        self.left -= 1
        late = threading.Event()
        watchdog = threading.Timer(TIMEOUT_S, self._give_up, [late])
        watchdog.start()
        self.broken = True  # until it has answered
        try:
            return self._exchange(request, encoded)
        except (OSError, EOFError):
            if late.is_set():
                raise ScanError(Reason.TIMEOUT, f"a compressed frame took longer than {TIMEOUT_S:g} s") from None
            raise ScanError(Reason.DECODER_CRASH, "the decoder died of a compressed frame") from None
        finally:
            watchdog.cancel()

    def _give_up(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _exchange(self, request: Request, encoded: bytes) -> Frame:
        stdin, stdout = _pipes(self._process)
        text = json.dumps(request).encode()
        stdin.write(LENGTHS.pack(len(text), len(encoded)) + text)
        stdin.write(encoded)
        stdin.flush()
        n_text, n_bytes = LENGTHS.unpack(_read(stdout, bytearray(LENGTHS.size)))
        note = json.loads(bytes(_read(stdout, bytearray(n_text))))
        if "error" in note:
            self.broken = False
            raise ScanError(Reason(note["error"]), f"a compressed frame can't be decoded as {request['codec']}")
        frame: Frame = np.empty((request["rows"], request["columns"], request["samples"]), np.dtype(request["dtype"]))
        if n_bytes != frame.nbytes:
            raise EOFError
        _read(stdout, frame.data.cast("B"))
        self.broken = False
        return frame if request["samples"] == 3 else frame[..., 0]

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in _pipes(self._process):
            try:
                pipe.close()
            except OSError:
                continue  # unsent bytes of a request that killed it
        self._process.wait()


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise EOFError
    return process.stdin, process.stdout


def _read(source: IO[bytes], target: bytearray | memoryview) -> bytearray | memoryview:
    """Fill `target`.

    Raises:
        EOFError: If the other end closed before.
    """
    if source.readinto(target) != len(target):  # type: ignore[attr-defined]
        raise EOFError
    return target


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
