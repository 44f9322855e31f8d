"""docs/bad_input.md, from the list of cases: `python -m tests.bad_input.table` writes it."""

from collections import Counter
from pathlib import Path

from tests.bad_input.case import Case
from tests.bad_input.cases import CASES, LARGE, MODULES

PAGE = Path(__file__).parents[2] / "docs" / "bad_input.md"

INTRODUCTION = """\
# Bad input

What becomes of {cases} kinds of bad, odd or merely unusual input, in {inputs} test inputs. This page is made from the
tests' own list (`python -m tests.bad_input.table`); a test fails when it is out of date.

* **OK**: read, equal to the truth in every voxel's value and place, without a warning.
* **WARN**: read likewise; the codes are in the column `warnings`.
* **SPLIT**: several volumes, each a scan of its own.
* **REJECT**: no volume, no score; the reason is one of these.
* **SKIP**: no scan; counted, and listed in `skipped.csv` with a note that holds this text.

Each input lies in a folder beside two good scans, and whatever comes of it: no exception but a refusal; at most 10 s
and 512 MiB; every file accounted for; the good scans read as ever; nothing written, altered or connected to; no
patient's name or path in what is said; a Volume only if it is sound. `pytest tests/bad_input -k B4-` runs the inputs
of one case; those of {large} are in `make test-slow`. Random damage: `make fuzz N=10000`.

Where one could choose, the reader refuses rather than guesses: an element that comes twice, even with equal values
(B17), other bits than the header tells (B5, C20), infinities (G25), a .nii.gz that goes on behind its voxels (G10). It
reads what has one meaning only: content before name (A5, A6), implicit elements under the explicit UID (B14), overlay
bits above the stored ones (C13), a tilted gantry as a shear (E11). What needs the user's word has a setting:
`read.allow_gaps` (E6), `read.assume_ras` (G20).

What a PACS can do wrong (class J) is in docs/pacs.md, tested in tests/scans/test_pacs.py; damaged models (class I) in
tests/bad_input/test_models.py.

| Case | Input | Outcome | Inputs | Test |
|---|---|---|---|---|
"""


def page() -> str:
    """The text of the page."""
    homes = {id(case): Path(str(module.__file__)).name for module in MODULES for case in module.CASES}
    inputs = Counter[str]()
    rows = []
    for case in CASES:
        first, inputs[case.name] = inputs[case.name] + 1, inputs[case.name] + len(case.builds)
        numbers = f"{case.name}-{first}" + (f" to {inputs[case.name]}" if len(case.builds) > 1 else "")
        rows.append(_row(case, numbers, homes[id(case)]))
    introduction = INTRODUCTION.format(cases=len(inputs), inputs=inputs.total(), large=", ".join(LARGE))
    return introduction + "\n".join(rows) + "\n"


def _row(case: Case, numbers: str, home: str) -> str:
    codes = "` `".join(code for code in case.outcome.codes if code)
    outcome = str(case.outcome).partition("(")[0] + (f" `{codes}`" if codes else "")
    return f"| {case.name} | {case.files} | {outcome} | {len(case.builds)} | {home} {numbers} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}: {len(CASES)} rows")
