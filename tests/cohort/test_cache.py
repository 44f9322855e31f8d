import json
from pathlib import Path

import pytest

from pipeline.cohort.cache import forget_passing_refusals


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        ('{"3": ["truncated", "", "rejected"]}', True),
        ("{}", True),
        ('{"3": ["truncated", "", "rejected"], "4": ["io_error", "", "rejected"]}', False),
        ('{"0": ["timeout", "", "rejected"]}', False),
        ('{"0": []}', True),
        ("no JSON", True),
    ],
)
def test_a_cache_that_holds_a_passing_refusal_is_not_finished(tmp_path: Path, content: str, stays: bool) -> None:
    other, finished = (tmp_path / "cache" / name / "done.json" for name in ("a", "b"))
    for path in (other, finished):
        path.parent.mkdir(parents=True)
    other.write_text(json.dumps({}))
    finished.write_text(content)
    forget_passing_refusals(tmp_path)
    assert (other.is_file(), finished.is_file()) == (True, stays)


def test_a_cohort_without_a_cache_is_left_alone(tmp_path: Path) -> None:
    forget_passing_refusals(tmp_path)
    assert list(tmp_path.iterdir()) == []
