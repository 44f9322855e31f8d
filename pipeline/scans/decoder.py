"""The child process that decodes compressed frames, and may die of it. Numpy and imagecodecs only.

Each line of standard input asks for one frame, each line of standard output answers, both as JSON objects. The frame
itself lies in memory shared with the parent: before compressed, afterwards decoded; see `codecs.Child`.
"""

import json
import resource
import sys
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

MEMORY = 3 * 2**29
"""Bytes that decoding may take beyond what the interpreter has when it starts."""

APP14 = b"\xff\xee\x00\x0eAdobe"
"""Adobe's marker, which says whether a colour JPEG is stored as YCbCr; shorter ones are damaged and say nothing."""

Request = dict[str, Any]
Frame = NDArray[Any]


def decode(request: Request, encoded: bytes) -> Frame:
    """One frame in native byte order: [row, column] or [row, column, 3].

    Args:
        request: codec, rows, columns, samples, dtype (of one sample, as the file declares it), photometric.
        encoded: The compressed frame.

    Raises:
        ValueError: dims_mismatch or malformed in its text.
    """
    shape = (request["rows"], request["columns"]) + ((3,) if request["samples"] == 3 else ())
    dtype = np.dtype(request["dtype"])
    frame = DECODERS[request["codec"]](encoded, request, dtype)
    if frame.shape != shape:
        raise ValueError("dims_mismatch")
    if frame.dtype.kind not in "iu" or frame.dtype.itemsize > dtype.itemsize:
        raise ValueError("malformed")
    # the same bits, whatever sign the codec gives them: the header's is what counts
    return np.ascontiguousarray(frame.astype(dtype, copy=False))


def _jpeg(encoded: bytes, request: Request, dtype: np.dtype[Any]) -> Frame:  # noqa: ARG001
    """JPEG .50 and .51; colour comes out as RGB."""
    if request["samples"] == 1:
        return np.asarray(imagecodecs.jpeg8_decode(encoded))
    if request["photometric"].startswith("YBR"):
        return np.asarray(imagecodecs.jpeg8_decode(encoded, colorspace="YCBCR", outcolorspace="RGB"))
    if APP14 in bytes(encoded[:2048]):
        return np.asarray(imagecodecs.jpeg8_decode(encoded))
    return np.asarray(imagecodecs.jpeg8_decode(encoded, colorspace="RGB", outcolorspace="RGB"))


def _lossless_jpeg(encoded: bytes, request: Request, dtype: np.dtype[Any]) -> Frame:  # noqa: ARG001
    """JPEG .57 and .70; no colour is converted."""
    try:
        return np.asarray(imagecodecs.jpeg8_decode(encoded))
    except imagecodecs.Jpeg8Error:
        return np.asarray(imagecodecs.jpegsof3_decode(encoded))


def _rle(encoded: bytes, request: Request, dtype: np.dtype[Any]) -> Frame:
    """RLE stores sample after sample, plane by plane (PS3.5 G.2)."""
    grid = (request["rows"], request["columns"])
    values = np.frombuffer(imagecodecs.dicomrle_decode(encoded, dtype.newbyteorder("<")), dtype.newbyteorder("<"))
    if values.size != grid[0] * grid[1] * request["samples"]:
        raise ValueError("dims_mismatch")
    return values.reshape(grid) if request["samples"] == 1 else values.reshape(3, *grid).transpose(1, 2, 0)


DECODERS: dict[str, Callable[[bytes, Request, np.dtype[Any]], Frame]] = {
    "jpeg": _jpeg,
    "lossless_jpeg": _lossless_jpeg,
    "jpegls": lambda encoded, *_: np.asarray(imagecodecs.jpegls_decode(encoded)),
    "jpeg2k": lambda encoded, *_: np.asarray(imagecodecs.jpeg2k_decode(encoded)),
    "htj2k": lambda encoded, *_: np.asarray(imagecodecs.htj2k_decode(encoded)),
    "rle": _rle,
}


def answer(request: Request, encoded: bytes) -> tuple[dict[str, str], memoryview]:
    """({}, the frame's bytes), or ({"error": reason}, nothing)."""
    try:
        return {}, decode(request, encoded).data.cast("B")
    except MemoryError:
        error = "too_large"
    except ImportError:  # imagecodecs was built without this codec
        error = "unsupported_transfer_syntax"
    except ValueError as problem:
        error = "dims_mismatch" if str(problem) == "dims_mismatch" else "malformed"
    except Exception:
        error = "malformed"
    return {"error": error}, memoryview(b"")


def serve(source: BinaryIO, sink: BinaryIO, shared: int) -> None:
    """Answer requests until the other end closes.

    Args:
        source: Where requests come from: those of `decode`, and the bytes of the `encoded` frame and of the `memory`.
        sink: Where answers go.
        shared: Descriptor of the shared memory, which may grow from request to request.
    """
    memory = mmap(-1, 1)
    for line in source:
        request = json.loads(line)
        if len(memory) < request["memory"]:
            memory = mmap(shared, request["memory"])
        encoded = cast(bytes, memoryview(memory)[: request["encoded"]])  # the codecs take a view, which spares a copy
        note, frame = answer(request, encoded)
        memory[: frame.nbytes] = frame
        sink.write(json.dumps(note).encode() + b"\n")
        sink.flush()


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 2**18
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    # load the codecs before the limit holds
    for name in ("jpeg8", "jpegsof3", "jpegls", "jpeg2k", "htj2k", "dicomrle"):
        getattr(imagecodecs, f"{name}_decode")
    _limit_memory()
    serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))
