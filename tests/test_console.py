"""What all commands say alike."""

import os
import subprocess
import sys

import pytest

from pipeline.console import count

LINES = "from pipeline.console import guarded, progress, stdout\nsys = __import__('sys')\n"
"""How the commands below begin."""


@pytest.mark.parametrize(
    ("n", "noun", "said"),
    [(1, "scan", "1 scan"), (0, "scan", "0 scans"), (1200, "file", "1,200 files"), (2, "CT series", "2 CT series")],
)
def test_a_count_agrees_with_its_noun(n: int, noun: str, said: str) -> None:
    assert count(n, noun) == said


def test_a_reader_that_leaves_does_not_end_the_work() -> None:
    theirs, ours = os.pipe()
    os.close(theirs)
    body = "def body():\n  for _ in range(3): stdout.print('said')\n  return 3\nsys.exit(guarded(body))"
    done = subprocess.run([sys.executable, "-c", LINES + body], stdout=ours, stderr=subprocess.PIPE, check=False)
    os.close(ours)
    assert (done.returncode, done.stderr) == (3, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_names_that_the_terminal_has_no_letters_for_are_said_all_the_same(encoding: str) -> None:
    body = r"sys.exit(guarded(lambda: stdout.print('\u2082 \udcff') or 3))"
    surroundings = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", LINES + body], env=surroundings, capture_output=True, encoding="utf-8", check=False
    )
    subscript = "\u2082" if encoding == "utf-8:strict" else r"\u2082"
    assert (done.returncode, done.stdout, done.stderr) == (3, subscript + " \\udcff\n", "")


@pytest.mark.parametrize("closed", ["2>&-", ">&-"])
def test_a_closed_stream_changes_nothing(closed: str) -> None:
    body = "def body():\n  with progress('x') as report: report(1, 1)\n  stdout.print('said')\n  return 3\n"
    body += "sys.exit(guarded(body))"
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, LINES + body], check=False)
    assert done.returncode == 3
