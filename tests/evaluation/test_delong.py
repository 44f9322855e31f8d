"""DeLong's own example, as SAS/STAT prints it (PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves")."""

import numpy as np
import pytest
from scipy.stats import chi2

from pipeline.evaluation import intervals, metrics

# DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837: albumin, total protein, K-G score, outcome; the 43 patients
# with ovarian cancer who have all three tests.
ROWS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def test_delongs_example_has_its_published_areas_errors_and_test() -> None:
    albumin, protein, score, y = np.array(ROWS.split(), dtype=float).reshape(-1, 4).T
    tests = np.column_stack([albumin, protein, 10 - score])
    areas = np.array([metrics.auroc(y, column) for column in tests.T])
    parts = np.column_stack([intervals.auroc_parts(y, column) for column in tests.T])
    covariance = intervals.auroc_covariance(y, parts, np.arange(len(y)))
    assert areas.round(4).tolist() == [0.7366, 0.6478, 0.7258]
    assert np.sqrt(np.diag(covariance)).round(4).tolist() == [0.0927, 0.1000, 0.1028]
    contrast = np.array([[1.0, 0, -1], [0, 1, -1]])  # albumin, and total protein, against the K-G score
    difference, spread = contrast @ areas, contrast @ covariance @ contrast.T
    assert difference.round(4).tolist() == [0.0108, -0.0780]
    assert np.sqrt(np.diag(spread)).round(4).tolist() == [0.0953, 0.1046]
    statistic = difference @ np.linalg.solve(spread, difference)
    assert statistic == pytest.approx(2.5340, abs=5e-5)
    assert chi2.sf(statistic, 2) == pytest.approx(0.2817, abs=5e-5)
