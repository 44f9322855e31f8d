from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import accuracy, bootstrap, compare, influence, intervals, metrics, overall
from pipeline.evaluation.cases import Cases
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import study

Array = np.ndarray
LIMIT = 0.2


def cases_of(seed: int = 0, patients: int = 900, scans: int = 3, ties: bool = True) -> Cases:
    cases = study(np.random.default_rng(seed), patients, scans, share=0.5)
    return Cases(cases.y, cases.p.round(3 if ties else 12), cases.patients, cases.p >= 0.5, {"threshold": 0.5})


def weighted(cases: Cases, name: str) -> Callable[[Array], float]:
    ranked, cells = metrics.Ranked(cases.y, cases.p), metrics.confusion(cases.y, cases.p >= 0.5)
    if name == "partial_auroc":
        return lambda w: float(ranked.partial_auroc(w[None], LIMIT)[0])
    if name in ("auroc", "average_precision"):
        return lambda w: float(getattr(ranked, name)(w[None])[0])
    return lambda w: float(metrics.at_point(w[None] @ cells)[name][0])


def influences(cases: Cases, name: str) -> Array:
    if name == "partial_auroc":
        return influence.of_partial_auroc(cases.y, cases.p, LIMIT)
    if name in ("auroc", "average_precision"):
        return {"auroc": influence.of_auroc, "average_precision": influence.of_average_precision}[name](
            cases.y, cases.p
        )
    return influence.of_decisions(metrics.confusion(cases.y, cases.p >= 0.5))[name]


@pytest.mark.parametrize("name", ["auroc", "average_precision", *metrics.AT_POINT])
def test_an_influence_is_the_derivative_by_a_scans_weight(name: str) -> None:
    cases = cases_of(patients=100)
    value, found, h = weighted(cases, name), influences(cases, name), 1e-5
    for k in range(0, cases.n, 37):
        up, down = (np.where(np.arange(cases.n) == k, 1 + step, 1.0) for step in (h, -h))
        assert found[k] == pytest.approx((value(up) - value(down)) / (2 * h), abs=2e-8), k
    assert found.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["auroc", "partial_auroc", "average_precision", *metrics.AT_POINT])
def test_the_linear_standard_error_is_that_of_the_bootstrap(name: str) -> None:
    cases = cases_of(1)
    value = weighted(cases, name)
    drawn = bootstrap.resampled(lambda w: np.array([[value(row)] for row in w]), cases.patients, 600, 0)
    assert influence.standard_error(influences(cases, name), cases.patients) == pytest.approx(drawn.std(), rel=0.1)


def test_with_one_scan_a_patient_it_is_delongs_variance() -> None:
    cases = cases_of(2, 200, 1)
    parts = intervals.auroc_parts(cases.y, cases.p)[:, None]
    delong = intervals.auroc_covariance(cases.y, parts, cases.patients)[0, 0]
    found = influence.standard_error(influence.of_auroc(cases.y, cases.p), cases.patients)
    assert found**2 == pytest.approx(delong, rel=0.01)  # DeLong divides by scans of a class - 1, this by patients - 1


def test_large_tables_get_nearly_the_same_intervals_without_a_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    cases, section = cases_of(3, 400), EvaluateSection()
    names = (*metrics.RANKING, "brier", *metrics.AT_POINT)
    drawn = accuracy.measures(cases, section, names)
    for room in (accuracy, bootstrap):
        monkeypatch.setattr(room, "MANY", 100)
    monkeypatch.setattr(bootstrap, "resampled", None)
    linear = accuracy.measures(cases, section, names)
    assert linear["auroc"]["method"] == "Obuchowski, logit scale"
    assert linear["mcc"]["method"] == "linear approximation by patient, atanh scale"
    for name in names:
        assert linear[name]["value"] == drawn[name]["value"]
        for end in ("low", "high"):
            width = drawn[name]["high"] - drawn[name]["low"]  # type: ignore[operator]
            assert linear[name][end] == pytest.approx(drawn[name][end], abs=0.08 * width), name  # type: ignore[literal-required]


def test_large_tables_get_nearly_the_same_averages_and_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, section = np.random.default_rng(5), EvaluateSection()
    truth, patients = rng.integers(0, 3, 900), np.repeat(np.arange(300), 3)
    p = rng.dirichlet([1, 1, 1], 900) + 0.5 * np.eye(3)[truth]
    p /= p.sum(axis=1, keepdims=True)
    columns = {f"y_o={k}": (truth == k).astype(float) for k in range(3)} | {f"p_o={k}": p[:, k] for k in range(3)}
    rows = pd.DataFrame({"patient": patients.astype(str)} | columns)
    ours, theirs = cases_of(6, 300), cases_of(7, 300)
    theirs = Cases(ours.y, (ours.p + theirs.p) / 2, ours.patients, ours.p + theirs.p >= 1, ours.point)

    def both() -> dict:  # type: ignore[type-arg]
        found = overall.overall(rows, [f"o={k}" for k in range(3)], "multiclass", section)
        found.pop("confusion")
        return found | {f"difference {k}": m for k, m in compare.compare(ours, theirs, section).items()}

    drawn = both()
    for room in (bootstrap, compare):
        monkeypatch.setattr(room, "MANY", 100)
    monkeypatch.setattr(bootstrap, "resampled", None)
    for name, found in both().items():
        assert found["value"] == pytest.approx(drawn[name]["value"], abs=1e-12)
        width = drawn[name]["high"] - drawn[name]["low"]
        assert found["low"] == pytest.approx(drawn[name]["low"], abs=0.08 * width), name
