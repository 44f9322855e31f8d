import pytest

from pipeline.results import tables


def found(
    value: float | None, low: float | None = None, high: float | None = None, **more: object
) -> dict[str, object]:
    return {"value": value, "low": low, "high": high, "level": 0.95, "method": "Wilson", "n": 9} | more


def test_a_row_is_text_and_a_band_in_percent() -> None:
    row = tables.row("sensitivity", found(0.8, 0.5, 0.9))
    assert (row.name, row.value, row.interval, row.band, row.n) == (
        "Sensitivity",
        "0.80",
        "0.50 to 0.90",
        (50, 80, 90),
        9,
    )


def test_an_undefined_metric_shows_its_reason() -> None:
    row = tables.row("ppv", found(None, method="none", reason="no scan was called positive"))
    assert (row.value, row.interval, row.band, row.method) == ("–", "no scan was called positive", None, "")


@pytest.mark.parametrize("key", ["mcc", "slope", "positive_likelihood_ratio"])
def test_only_metrics_from_0_to_1_are_drawn(key: str) -> None:
    assert tables.row(key, found(0.5, 0.1, 0.9)).band is None


def test_settings_are_flat_and_dotted() -> None:
    nested = {"a": {"b": (1, 2), "c": None}, "d": True, "e": []}
    assert list(tables.flat(nested)) == [("a.b", "1, 2"), ("a.c", "–"), ("d", "True"), ("e", "–")]
