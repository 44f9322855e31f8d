"""What the viewer's command line says, and what can't work of it, told at once. No Streamlit, no torch."""

import os
import socket
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.domain import UsageError
from pipeline.scans.pacs import Pacs, Query
from pipeline.scans.pacs_query import is_address

ADDRESS = "127.0.0.1"
"""Where the viewer listens unless it is told otherwise: this machine only."""


@dataclass(frozen=True)
class Settings:
    """Look at scans, a model's calibrated probabilities for them, and where it looked. Research use only."""

    model: Path
    """MODEL folder that training wrote (RUN/model)."""
    scans: Path
    """Folder of scans to choose from (or one scan), or a PACS: dicomweb://host:port/path (http) or
    dicomwebs://host:port/path (https), with --query."""
    port: Annotated[int, tyro.conf.arg(metavar="PORT")] = 8501
    """TCP port; 0 takes any free one."""
    hide_identity: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show no name, ID, date or file name, for reader studies."""
    query: str = ""
    """With a PACS: what to retrieve, for example "Modality=CT&StudyDate=20260101-20260131"; it lies in the temporary
    folder until the viewer ends."""
    scores: Path | None = None
    """OUT folder of pipeline.score: its predictions.csv fills the worklist."""
    run: Path | None = None
    """RUN folder that trained the model: the performance page shows intervals at every threshold, and which scans
    flip."""
    db: str = ""
    """Where readers' opinions go, as a database URL (sqlite:////folder/opinions.sqlite, postgresql://...); by default
    opinions.sqlite in your own data folder."""
    audit_log: Path | None = None
    """File that records who opened which scan (JSON lines, appended to); by default audit.jsonl in your own data
    folder."""
    allow_remote: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = ""
    """Let other machines in: listen on this address of this machine, so that everybody who reaches it and holds the
    link sees patients' scans. By default only this machine (127.0.0.1) is served."""
    host_names: tuple[str, ...] = ()
    """With --allow-remote: the names by which browsers may call the viewer, for example viewer.hospital.example."""
    login: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Readers sign in with your OpenID Connect provider as well (docs/viewer.md); opinions and audit log name them."""

    @property
    def is_pacs(self) -> bool:
        """Whether the scans come from a PACS."""
        return is_address(str(self.scans))

    @property
    def address(self) -> str:
        """Where the viewer listens."""
        return self.allow_remote or ADDRESS

    @property
    def database(self) -> str:
        """URL of the readers' opinions."""
        return self.db or f"sqlite:///{data_folder() / 'opinions.sqlite'}"

    @property
    def audit_file(self) -> Path:
        """The audit log."""
        return self.audit_log or data_folder() / "audit.jsonl"


def data_folder() -> Path:
    """This user's own folder for opinions and the audit log, by the system's custom."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "scanline"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "scanline"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "scanline"


@lru_cache(maxsize=4)
def parse_settings(arguments: tuple[str, ...]) -> Settings:
    """The settings on a command line. Leaves with exit code 2 where they can't be understood."""
    return tyro.cli(Settings, args=list(arguments), prog="python -m app")


def the_settings() -> Settings:
    """The settings of this process: the page's script reads the same command line as the launcher."""
    return parse_settings(tuple(sys.argv[1:]))


def check_settings(settings: Settings) -> None:
    """Say at once, before anything slow, what can't work.

    Raises:
        UsageError: Listing every problem.
    """
    problems = [*_folder_problems(settings), *_remote_problems(settings)]
    if not 0 <= settings.port <= 65535:
        problems.append(f"--port {settings.port}: expected 0 to 65535")
    if settings.db and "://" not in settings.db:
        problems.append(f"--db {settings.db}: is no database URL; for a file give sqlite:///{settings.db}")
    if settings.audit_log is not None and settings.audit_log.is_dir():
        problems.append(f"--audit-log {settings.audit_log}: is a folder; give a file")
    if problems:
        raise UsageError("the viewer can't start:\n  " + "\n  ".join(problems))


def _folder_problems(settings: Settings) -> list[str]:
    problems = []
    if not (settings.model / "model.json").is_file():
        problems.append(f"--model {settings.model}: holds no model.json; give the `model` folder that training wrote")
    if settings.is_pacs:
        problems += _pacs_problems(settings)
    elif not settings.scans.exists():
        problems.append(f"--scans {settings.scans}: does not exist; give a folder of scans")
    elif settings.query:
        problems.append("--query: needs a PACS; give its address dicomweb://host:port/path as --scans")
    if settings.scores is not None and not (settings.scores / "predictions.csv").is_file():
        problems.append(f"--scores {settings.scores}: holds no predictions.csv; give the OUT folder of pipeline.score")
    if settings.run is not None and not (settings.run / "predictions.csv").is_file():
        problems.append(f"--run {settings.run}: holds no predictions.csv; give the folder that pipeline.train wrote")
    return problems


def _pacs_problems(settings: Settings) -> list[str]:
    problems = []
    for check in (lambda: Pacs.at(str(settings.scans)), lambda: Query.parsed(settings.query)):
        try:
            check()
        except UsageError as error:
            problems.append(str(error))
    if settings.scores is not None:
        problems.append("--scores: belongs to the scans that were scored; give their folder OUT/scans as --scans")
    return problems


def _remote_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.host_names and not settings.allow_remote:
        problems.append("--host-names: has no effect without --allow-remote ADDRESS")
    if settings.allow_remote in ("0.0.0.0", "::") and not settings.host_names:
        problems.append(
            f"--allow-remote {settings.allow_remote}: on every address the viewer must know its own name; "
            "add --host-names viewer.hospital.example"
        )
    if settings.allow_remote and not _is_address(settings.allow_remote):
        problems.append(f"--allow-remote {settings.allow_remote}: is no IP address; give one of this machine")
    return problems


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False
