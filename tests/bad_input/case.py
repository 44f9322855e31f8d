"""The nouns of the bad-input cases: what is written, what must come of it, and what the voxels truly are."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.domain import ReadRules, Volume


@dataclass(frozen=True)
class Truth:
    """What a Volume must hold, said without the reader.

    Attributes:
        values: In the volume's unit, by stored index: DICOM [slice, row, column], NIfTI [i, j, k], colour [..., 3].
        affine: 4x4, stored index to RAS+ mm.
        within: Largest difference of a value.
    """

    values: np.ndarray
    affine: np.ndarray
    within: float = 0.0

    def check(self, volume: Volume) -> None:
        """Every value lies where it belongs (within 1e-3 mm), and there are no others."""
        index = np.indices(self.values.shape[:3]).reshape(3, -1)
        world = self.affine[:3, :3] @ index + self.affine[:3, 3:]
        to_world, origin = volume.affine[:3, :3], volume.affine[:3, 3:]
        place = np.rint(np.linalg.solve(to_world, world - origin)).astype(int)
        np.testing.assert_allclose(to_world @ place + origin, world, rtol=0, atol=1e-3)
        assert volume.voxels.size == self.values.size
        seen = volume.voxels[tuple(place)].reshape(self.values.shape)
        np.testing.assert_allclose(seen, self.values, rtol=0, atol=self.within)


@dataclass(frozen=True)
class Outcome:
    """What must come of a case's files.

    * OK: one Volume without warnings. WARN: one with exactly these. SPLIT: several, each without warnings.
    * REJECT: no Volume; every refusal has one of these reasons.
    * SKIP: no Volume and no refusal; each file is set aside with a note that holds the code.
    * EITHER: each file is refused with one of these reasons, or gives a Volume, equal to the truth where there is one.
    """

    kind: Literal["OK", "WARN", "SPLIT", "REJECT", "SKIP", "EITHER"]
    codes: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = "OK or REJECT" if self.kind == "EITHER" else self.kind
        return f"{kind}({', '.join(self.codes)})" if any(self.codes) else kind


OK, SPLIT = Outcome("OK"), Outcome("SPLIT")


def warn(*codes: str) -> Outcome:
    return Outcome("WARN", codes)


def reject(*reasons: str) -> Outcome:
    return Outcome("REJECT", reasons)


def skip(note: str) -> Outcome:
    return Outcome("SKIP", (note,))


def either(*reasons: str) -> Outcome:
    return Outcome("EITHER", reasons)


Build = Callable[[Path], Truth | Sequence[Truth] | None]
"""Writes a case's files into a folder that exists; gives the truth of each Volume, by group, then path."""

USUAL_RULES = ReadRules()


@dataclass(frozen=True)
class Case:
    """One row of docs/bad_input.md.

    Attributes:
        name: Class and number, for example "B4"; several rows may share it.
        files: What is written, in words.
        outcome: What must come of it.
        builds: One for each input.
        rules: The reader's.
        between: What happens to the folder after it was searched and before it is read.
        around: What holds while it is searched and read.
    """

    name: str
    files: str
    outcome: Outcome
    builds: tuple[Build, ...]
    rules: ReadRules = USUAL_RULES
    between: Callable[[Path], None] | None = None
    around: Callable[[Path], AbstractContextManager[object]] = nullcontext


def case(name: str, files: str, outcome: Outcome, *builds: Build, **more) -> Case:
    return Case(name, files, outcome, builds, **more)
