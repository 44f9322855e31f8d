"""Simulated studies with a known truth, for the tests of this room."""

import numpy as np
import pandas as pd
from scipy.stats import norm

from pipeline.evaluation.cases import Cases


def study(
    rng: np.random.Generator,
    patients: int,
    scans: int = 1,
    auroc: float = 0.85,
    share: float = 0.0,
    by_patient: bool = False,
) -> Cases:
    """Binormal scores: `share` of their variance belongs to the patient; labels per scan, or per patient."""
    of = np.repeat(np.arange(patients), scans)
    y = (rng.random(patients if by_patient else patients * scans) < 0.5).astype(float)
    y = np.repeat(y, scans) if by_patient else y
    gap = separation(auroc)
    noise = np.sqrt(share) * rng.normal(size=patients)[of] + np.sqrt(1 - share) * rng.normal(size=len(of))
    score = noise + gap * y - gap / 2
    return Cases(
        y, 1 / (1 + np.exp(-gap * score)), of, score >= 0, {"threshold": 0.5, "target": "x", "chosen_on": "tune"}
    )


def separation(auroc: float) -> float:
    """Distance of the two normal distributions that have this AUROC."""
    return float(norm.ppf(auroc) * np.sqrt(2))


def sensitivity(auroc: float) -> float:
    """True sensitivity (and specificity) of the cut midway between the two distributions."""
    return float(norm.cdf(separation(auroc) / 2))


def table(y: list[float], p: list[float], **columns: object) -> pd.DataFrame:
    """Predictions of one finding as text columns, one patient a scan, all in the test split."""
    n = len(y)
    base: dict[str, object] = {
        "scan_id": [f"{k:016x}" for k in range(n)], "patient": [f"p{k}" for k in range(n)], "split": ["test"] * n,
        "fold": [""] * n, "status": ["ok"] * n, "y_nodule": y, "p_nodule": p,
    }  # fmt: skip
    return pd.DataFrame(base | columns).astype(object).map(lambda cell: "" if cell is None else str(cell))
