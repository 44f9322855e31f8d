"""What readers think of the model's answers: rows that are only ever added, in SQLite or another database."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias, cast

import pandas as pd
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from pipeline.domain import UsageError
from pipeline.files import plain_cell

Verdict: TypeAlias = Literal["agree", "disagree", "unsure"]
VERDICTS: tuple[Verdict, ...] = ("agree", "disagree", "unsure")
LONGEST_NOTE = 4000
"""Letters of a note."""
WAIT_S = 5
"""How long a writer waits for another one, before the reader is told that the database is locked."""
POINT = ("i", "j", "k", "x_mm", "y_mm", "z_mm")

_metadata = MetaData()
TABLE = Table(
    "opinions", _metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time", DateTime, nullable=False),
    Column("reader", String(200), nullable=False),
    Column("scan_id", String(200), nullable=False, index=True),
    Column("model", String(200), nullable=False),
    Column("finding", String(200), nullable=False),
    Column("probability", Float),
    Column("opinion", String(16), nullable=False),
    Column("note", String(LONGEST_NOTE), nullable=False),
    *(Column(name, Integer) for name in POINT[:3]),
    *(Column(name, Float) for name in POINT[3:]),
)  # fmt: skip
"""One row an opinion; a reader who thinks again adds another."""

REFUSALS = {
    "locked": "the database is locked: another program writes into it. Try again in a moment.",
    "readonly": "the database is read-only. Restore the rights to its file and folder, then try again.",
    "full": "the disk is full. Free space, then try again.",
    "no such table": "the database was replaced while the viewer ran. Start the viewer again.",
    "not a database": "the file is no SQLite database. Give another --db.",
    "malformed": "the file is damaged. Give another --db, and restore this one from your backup.",
    "unable to open": "the file can't be opened. Check that its folder is there and may be written to.",
}
"""Part of the driver's own message -> what to tell the reader."""

ONLY_APPENDED = (
    "CREATE TRIGGER IF NOT EXISTS opinions_stay BEFORE UPDATE ON opinions "
    "BEGIN SELECT RAISE(ABORT, 'opinions are only added'); END",
    "CREATE TRIGGER IF NOT EXISTS opinions_remain BEFORE DELETE ON opinions "
    "BEGIN SELECT RAISE(ABORT, 'opinions are only added'); END",
)
"""SQLite itself refuses to change or remove a row; other databases are given the right to insert only."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one reader thinks of one answer.

    Attributes:
        model: Name and hash of the model folder.
        probability: What the model said; None where it said nothing.
        i, j, k: Voxel that the reader points at, on the volume's own grid; None without a point.
        x_mm, y_mm, z_mm: The same place in the patient's RAS+ frame.
        time: UTC.
    """

    reader: str
    scan_id: str
    model: str
    finding: str
    opinion: Verdict
    note: str = ""
    probability: float | None = None
    i: int | None = None
    j: int | None = None
    k: int | None = None
    x_mm: float | None = None
    y_mm: float | None = None
    z_mm: float | None = None
    time: datetime | None = None


class Opinions:
    """The readers' opinions in a database.

    Args:
        url: Of the database, in SQLAlchemy's form. A SQLite file is made where there is none.

    Raises:
        UsageError: If the database can't be opened.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        try:
            with self._engine.begin() as connection:
                _metadata.create_all(connection)
                if self._engine.dialect.name == "sqlite":
                    for trigger in ONLY_APPENDED:
                        connection.execute(text(trigger))
        except SQLAlchemyError as error:
            raise UsageError(f"--db: the database of opinions can't be opened: {_why(error)}") from None

    def add(self, opinion: Opinion) -> None:
        """Add one row; it is stored when this returns.

        Raises:
            UsageError: If it could not be stored.
        """
        row = asdict(opinion) | {"time": datetime.now(UTC).replace(tzinfo=None), "note": opinion.note[:LONGEST_NOTE]}
        try:
            with self._engine.begin() as connection:
                connection.execute(TABLE.insert().values(**row))
        except SQLAlchemyError as error:
            raise UsageError(_why(error)) from None

    def of_scan(self, scan_id: str) -> list[Opinion]:
        """The opinions of a scan, the newest first.

        Raises:
            UsageError: If the database can't be read.
        """
        return [_opinion(row) for row in self._rows(TABLE.c.scan_id == scan_id)][::-1]

    def csv(self) -> bytes:
        """Every opinion as CSV (UTF-8), the oldest first; text that a spreadsheet would run gets a leading quote.

        Raises:
            UsageError: If the database can't be read.
        """
        table = pd.DataFrame(self._rows(), columns=[column.name for column in TABLE.columns])
        for name in ("reader", "scan_id", "model", "finding", "note"):
            table[name] = table[name].map(plain_cell)
        table["time"] = pd.to_datetime(table["time"]).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        for name in POINT[:3]:
            table[name] = table[name].astype("Int64")
        return table.to_csv(index=False, lineterminator="\r\n").encode("utf-8-sig")

    def _rows(self, *conditions: object) -> Sequence[dict[str, object]]:
        query = select(TABLE).where(*conditions).order_by(TABLE.c.id)  # type: ignore[arg-type]
        try:
            with self._engine.connect() as connection:
                return [dict(row) for row in connection.execute(query).mappings()]
        except SQLAlchemyError as error:
            raise UsageError(_why(error)) from None


@lru_cache(maxsize=4)
def the_opinions(url: str) -> Opinions:
    """The opinions in this database, opened once for all browser tabs.

    Raises:
        UsageError: If the database can't be opened.
    """
    return Opinions(url)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
        if parsed.database and not parsed.database.startswith((":memory:", "file:")):  # neither is a path
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(parsed, connect_args={"timeout": WAIT_S})
    except (ArgumentError, NoSuchModuleError, ImportError):
        raise UsageError("--db: is no database URL that this program can open; give sqlite:////folder/file.sqlite, or "
                         "install the driver of your database") from None  # fmt: skip
    except OSError as error:
        raise UsageError(f"--db: the folder of the database can't be made ({error.strerror})") from None
    event.listen(engine, "connect", _wait_in_line)
    return engine


def _wait_in_line(connection: object, _: object) -> None:
    """Writers of several tabs and processes wait for each other, and a power cut leaves whole rows."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _opinion(row: dict[str, object]) -> Opinion:
    values = {name: value for name, value in row.items() if name != "id"}
    return Opinion(**cast("dict[str, str]", values))  # type: ignore[arg-type]


def _why(error: SQLAlchemyError) -> str:
    """What keeps the database from working, in words; the driver's own text, never what was to be stored."""
    said = str(error.orig).lower() if isinstance(error, DBAPIError) else ""
    for part, words in REFUSALS.items():
        if part in said:
            return words
    return f"the database refuses ({type(error).__name__})."
