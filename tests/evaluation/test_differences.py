import numpy as np
import pytest
from scipy.stats import chi2_contingency
from statsmodels.stats.multitest import multipletests

from pipeline.evaluation import intervals, metrics
from pipeline.evaluation.assess import assess
from pipeline.evaluation.cases import Cases
from pipeline.evaluation.differences import TOO_FEW, equality, holm
from pipeline.evaluation.table import check_predictions
from tests.evaluation.studies import study
from tests.evaluation.test_assess import POINT, SECTION, random_table


def two_sites(seed: int, scans: int = 1, at_b: float = 0.85) -> tuple[Cases, np.ndarray]:
    """A study at site A with AUROC 0.85, and one at site B."""
    rng = np.random.default_rng(seed)
    a, b = study(rng, 80, scans, share=0.5), study(rng, 60, scans, at_b, share=0.5)
    assert a.positive is not None
    assert b.positive is not None
    both = Cases(np.r_[a.y, b.y], np.r_[a.p, b.p], np.r_[a.patients, b.patients + 80],
                 np.r_[a.positive, b.positive], {"threshold": 0.5})  # fmt: skip
    return both, np.repeat(["A", "B"], [80 * scans, 60 * scans])


def test_auroc_of_two_groups_is_compared_with_delongs_variances() -> None:
    cases, groups = two_sites(0, at_b=0.7)
    areas, variances = [], []
    for name in "AB":
        y, p = cases.y[groups == name], cases.p[groups == name]
        areas.append(metrics.auroc(y, p))
        parts = intervals.auroc_parts(y, p)[:, None]
        variances.append(intervals.auroc_covariance(y, parts, np.arange(len(y)))[0, 0])
    found = equality("auroc", cases, groups, ["A", "B"])
    assert found["chi2"] == pytest.approx((areas[0] - areas[1]) ** 2 / sum(variances), rel=0.03)
    assert found["df"] == 1


def test_rates_of_independent_scans_are_compared_as_in_pearsons_test() -> None:
    cases, groups = two_sites(1, at_b=0.7)
    sick = cases.y == 1
    table = [[((cases.positive == said) & sick & (groups == g)).sum() for said in (True, False)] for g in "AB"]
    expected = chi2_contingency(table, correction=False).statistic
    assert equality("sensitivity", cases, groups, ["A", "B"])["chi2"] == pytest.approx(expected, rel=0.1)


def test_copies_of_a_scan_make_no_difference_significant() -> None:
    cases, groups = two_sites(2)
    copies = np.repeat(np.arange(140), 5)
    many = Cases(cases.y[copies], cases.p[copies], cases.patients[copies], cases.positive[copies], cases.point)  # type: ignore[index]
    for name in ("auroc", "sensitivity", "specificity"):
        once = equality(name, cases, groups, ["A", "B"])
        assert equality(name, many, groups[copies], ["A", "B"])["p"] == pytest.approx(once["p"], abs=1e-6)


def test_three_groups_have_two_degrees_of_freedom_and_one_has_no_test() -> None:
    cases, _ = two_sites(3)
    groups = np.array(["A", "B", "C", "A", "B", "C", "A"] * 20)
    assert equality("auroc", cases, groups, ["A", "B", "C"])["df"] == 2
    assert equality("auroc", cases, groups, ["A"]) == {"p": None, "reason": TOO_FEW}


def test_holm_is_that_of_statsmodels() -> None:
    p = [0.01, 0.04, None, 0.03, 0.005, 0.9, 0.02]
    known = [value for value in p if value is not None]
    expected = iter(multipletests(known, method="holm")[1])
    assert holm(p) == [None if value is None else pytest.approx(next(expected), abs=1e-12) for value in p]


def test_a_split_holds_a_test_a_column_and_skips_small_groups() -> None:
    rows = random_table(site=["A", "B"] * 60, sex=["F"] * 110 + ["M"] * 10)
    found = assess(check_predictions(rows, "P"), SECTION, POINT)["test"]["subgroup_tests"]
    assert found["site"]["nodule"]["auroc"]["p_holm"] >= found["site"]["nodule"]["auroc"]["p"]
    assert found["site"]["nodule"]["auroc"]["groups"] == ["A", "B"]
    assert found["sex"]["nodule"]["sensitivity"] == {"p": None, "reason": TOO_FEW, "p_holm": None}


@pytest.mark.slow
@pytest.mark.parametrize("scans", [1, 3])
def test_equal_groups_are_told_apart_as_rarely_as_promised(scans: int) -> None:
    found = [
        [equality(name, *two_sites(seed, scans), ["A", "B"])["p"] for name in ("auroc", "sensitivity", "specificity")]
        for seed in range(1000)
    ]
    share = (np.array(found) < 0.05).mean(axis=0)
    assert ((share > 0.03) & (share < 0.075)).all(), share
