"""Who opened which scan with which model: JSON lines, only ever appended to, nothing of the patient."""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.domain import UsageError


def record(file: Path, event: str, *, reader: str, scan: str, model: str) -> None:
    """Append one event; it is on the disk when this returns.

    Args:
        file: The log; made for this user only (mode 0600) where it is not there yet.
        event: What happened, for example "open".
        reader: Who did it, as they signed in or named themselves.
        scan: Scan id, which tells nothing of the patient.
        model: Name and hash of the model.

    Raises:
        UsageError: If it can't be written: what is not recorded must not be shown.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "event": event, "reader": reader, "scan": scan, "model": model})
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _append(log, f"{line}\n".encode())
        finally:
            os.close(log)
    except OSError as error:
        raise UsageError(
            f"The audit log can't be written ({error.strerror}), so no scan is shown. "
            "Free space or restore the rights to its file, then open the scan again."
        ) from None


def _append(log: int, line: bytes) -> None:
    """One write, so that lines of several processes never mix; half a line is taken back."""
    size = os.fstat(log).st_size
    written = os.write(log, line)
    if written < len(line):
        with suppress(OSError):
            os.ftruncate(log, size)
        raise OSError(28, "No space left on device")
    os.fsync(log)
