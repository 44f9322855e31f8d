"""Take scans that other systems push by C-STORE: `python -m pipeline.receive --aet NAME --port N --out FOLDER`."""

import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated

import tyro

from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, count, guarded, stderr, stdout
from pipeline.domain import UsageError

DEMO = "python -m pipeline.receive --aet SCANLINE --port 11112 --out incoming"
TELL_S = 60.0
"""Between two lines that say how many files have come."""


@dataclass(frozen=True)
class Options:
    """Store what is pushed here by C-STORE as files that the other commands take, until Ctrl-C or SIGTERM.

    Score it as it comes with python -m pipeline.score MODEL FOLDER --out OUT --watch. DICOM has neither passwords nor
    encryption of its own: listen beyond this machine (--host) only within a network that you trust.
    Exit code 3: something was refused.
    """

    aet: Annotated[str, tyro.conf.arg(metavar="NAME")]
    """AE title of this receiver: 1 to 16 characters. Senders that call it by another title are refused."""
    port: Annotated[int, tyro.conf.arg(metavar="N")]
    """Port to listen on, often 104 or 11112."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder for <study>/<series>/<instance>.dcm; names tell nothing of the patient."""
    host: str = "127.0.0.1"
    """Address to listen on; this machine alone by default, 0.0.0.0 for every network."""
    accept: tuple[str, ...] = ()
    """AE titles that may send; empty: any."""
    min_free_gb: float = 1.0
    """Refuse (status A700, out of resources) when the disk has less room than this many gigabytes (10^9 bytes)."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        stderr.print(f"receive needs an AE title, a port and a folder, for example:\n  {DEMO}", markup=False)
        return WRONG_USE
    options = tyro.cli(Options, args=arguments, prog="python -m pipeline.receive")
    return guarded(lambda: _run(options))


def _run(options: Options) -> int:
    from pipeline.scans.receiver import Receiver

    if not 0 <= options.port < 2**16:
        raise UsageError(f"--port is {options.port}, but needs 1 to 65535; 0 takes a free one")
    if not 0 <= options.min_free_gb < math.inf:
        raise UsageError(f"--min-free-gb is {options.min_free_gb:g}, but needs 0 or more")
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    receiver = Receiver(options.aet, options.out, options.accept, int(options.min_free_gb * 1e9))
    receiver.start(options.host, options.port)
    stdout.print(f"listening: {options.aet} on {options.host} port {receiver.port}; Ctrl-C ends it", markup=False)
    told = 0
    while not stop.wait(TELL_S):
        if receiver.received != told:
            told = receiver.received
            stdout.print(f"{count(told, 'file')} received", markup=False)
    receiver.stop()
    stdout.print(f"{count(receiver.received, 'file')} received; written: {options.out}", markup=False)
    for status, n in sorted(receiver.refused.items()):
        stdout.print(f"  {n} refused with status {status:04X}", markup=False)
    return WITH_REJECTIONS if receiver.refused else DONE


if __name__ == "__main__":
    sys.exit(main())
