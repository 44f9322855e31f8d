"""Claim: 1,000,000 predictions of 10 findings, every number with its interval, in under 60 s and 2 GiB on 2 cores.

The table is in memory, as `evaluate` holds it after reading; patients have two scans on average. The physical limit
beside it is one sort of each finding's probabilities, without which no AUROC can be computed. scikit-learn gives AUROC
and average precision alone, without intervals. CPU time stands beside wall time: on a busy machine only that is ours.

    python -m benchmarks.evaluation [SCANS] [FINDINGS]
"""

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.domain import OperatingPoint
from pipeline.evaluation.assess import assess
from pipeline.sections import EvaluateSection

LIMIT_S, LIMIT_GIB = 60.0, 2.0


def table(scans: int, findings: int) -> pd.DataFrame:
    """Made-up predictions of the test split."""
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {
        "scan_id": np.arange(scans).astype(str),
        "patient": rng.integers(0, scans // 2, scans).astype(str),
        "split": "test", "fold": "", "status": "ok",
    }  # fmt: skip
    for k in range(findings):
        y = (rng.random(scans) < 0.1).astype(float)
        columns[f"y_f{k}"] = y
        columns[f"p_f{k}"] = np.round(1 / (1 + np.exp(3 - 2 * y - rng.normal(size=scans))), 6)
    return pd.DataFrame(columns)


def seconds(body: Callable[[], object]) -> tuple[float, float]:
    """Wall time and CPU time of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    body()
    return time.perf_counter() - wall, time.process_time() - cpu


def main(scans: int, findings: int) -> bool:
    """Measure and print; whether the claim held."""
    rows = table(scans, findings)
    names = [f"f{k}" for k in range(findings)]
    points = {name: OperatingPoint(name, 0.2, "youden") for name in names}
    ours = seconds(lambda: assess(rows, EvaluateSection(), points))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    theirs = seconds(lambda: [score(rows[f"y_{n}"], rows[f"p_{n}"]) for n in names
                              for score in (roc_auc_score, average_precision_score)])  # fmt: skip
    limit = seconds(lambda: [np.sort(rows[f"p_{n}"].to_numpy()) for n in names])
    print(f"{scans:,} scans x {findings} findings, wall s (CPU s):")
    for name, (wall, cpu) in (("every number with its interval", ours), ("scikit-learn: AUROC and average precision, "
                              "no interval", theirs), ("sorting alone", limit)):  # fmt: skip
        print(f"  {name}: {wall:.1f} ({cpu:.1f})")
    print(f"  peak memory: {peak:.2f} GiB")
    held = ours[0] < LIMIT_S and peak < LIMIT_GIB
    print(f"claim (under {LIMIT_S:g} s and {LIMIT_GIB:g} GiB): {'holds' if held else 'does NOT hold'}")
    return held


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:3]]
    sys.exit(0 if main(*(given + [1_000_000, 10][len(given) :])) else 1)
