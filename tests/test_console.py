"""What all commands say alike."""

import pytest

from pipeline.console import count


@pytest.mark.parametrize(
    ("n", "noun", "said"),
    [(1, "scan", "1 scan"), (0, "scan", "0 scans"), (1200, "file", "1,200 files"), (2, "CT series", "2 CT series")],
)
def test_a_count_agrees_with_its_noun(n: int, noun: str, said: str) -> None:
    assert count(n, noun) == said
