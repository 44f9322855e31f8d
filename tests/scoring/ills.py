"""What readers do at their worst. Child processes import this: nothing heavy here."""

import ctypes
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

from pipeline.domain import Reason, ScanError


def behave(item: str) -> str:
    """The item in capitals, or one ill."""
    match item.partition(":")[0]:
        case "hang":
            time.sleep(60)
        case "hang in C":
            ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock: no thread, no handler runs
        case "leave a child and hang":
            child = subprocess.Popen(["sleep", "60"])
            Path(item.partition(":")[2]).write_text(str(child.pid))
            time.sleep(60)
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "memory":
            return str(len(bytearray(2**46)))
        case "refuse":
            raise ScanError(Reason.BLANK, "nothing but one value")
        case "fault":
            raise KeyError("DOE^JANE")
        case "noise":
            warnings.warn("DOE^JANE", stacklevel=1)
            print("DOE^JANE")
        case "modules":
            return " ".join(sorted(sys.modules))
        case "big":
            return "x" * 3_000_000
    return item.upper()
