"""Memory and open files do not grow with the scans; the whole measurement is benchmarks.scoring_flat."""

from pathlib import Path

from benchmarks.scoring_flat import run


def test_memory_and_open_files_stay_flat(tmp_path: Path) -> None:
    seen = run(tmp_path, 100, every=10)
    assert seen.rows == 100
    assert max(seen.memory[3:]) <= 1.05 * seen.memory[2]
    assert max(seen.files[3:]) <= seen.files[2]
