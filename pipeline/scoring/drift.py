"""Are these scans like those that the model was made with? Scores and rates compared with the model's reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact, ks_2samp

from pipeline.model.reference import Reference

FEWEST = 30
"""With fewer scans on either side nothing is said: only gross changes would show."""
LEVEL = 0.01
"""A change is named when it would come by chance less often than this, each comparison for itself."""
LARGE = 0.2
"""A Kolmogorov-Smirnov distance from which on a change is called large; with many scans small ones are certain too."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One property, now and in the training cohort.

    Attributes:
        what: The property, in words.
        verdict: What the comparison says, in words.
        changed: True or False; None where it can't be said.
        now, then: Mean score, or share of scans.
        n_now, n_then: Scans that they come from.
        p: How often chance alone would give as large a difference; None where it was not computed.
        distance: Largest distance of the two cumulative distributions (Kolmogorov-Smirnov), for scores.
    """

    what: str
    verdict: str
    changed: bool | None
    now: float | None
    then: float | None
    n_now: int
    n_then: int
    p: float | None = None
    distance: float | None = None


def drift(table: pd.DataFrame, reference: Reference | None, findings: Sequence[str]) -> list[Comparison]:
    """Comparisons of a table of predictions with the held-out scans of the training cohort; none without a reference.

    The p values take scans for independent; several of one patient make them too small.
    """
    if reference is None:
        return []
    ok = table[table["status"] == "ok"]
    found = [_scores(f, ok[f"p_{f}"].to_numpy(float), reference) for f in findings if f in reference.scores]
    judged = table[table["status"].isin(("ok", "rejected"))]
    rejected = int((judged["status"] == "rejected").sum())
    found.append(_rate("refused scans", (rejected, len(judged)), (reference.n_rejected, reference.n_found)))
    gated = ok["in_distribution"].dropna()
    if reference.n_out_of_distribution is not None and len(gated):
        unlike = int((~gated.astype(bool)).sum())
        then = (reference.n_out_of_distribution, reference.n_scans)
        found.append(_rate("scans out of distribution", (unlike, len(gated)), then))
    return found


def _scores(finding: str, p: np.ndarray, reference: Reference) -> Comparison:
    what, then = f"scores of {finding}", np.array(reference.scores[finding])
    now_mean = round(float(p.mean()), 6) if len(p) else None
    then_mean = round(float(then.mean()), 6)
    if few := _too_few(len(p), reference.n_scans):
        return Comparison(what, few, None, now_mean, then_mean, len(p), reference.n_scans)
    test = ks_2samp(p, then, method="asymp")
    distance, chance = round(float(test.statistic), 4), float(test.pvalue)
    changed = chance < LEVEL
    if not changed:
        verdict = "distributed as in training, as far as can be told"
    else:
        side = "higher" if now_mean is not None and now_mean > then_mean else "lower"
        verdict = f"{'clearly' if distance >= LARGE else 'somewhat'} {side} or otherwise distributed than in training"
    return Comparison(what, verdict, changed, now_mean, then_mean, len(p), reference.n_scans, _told(chance), distance)


def _rate(what: str, now: tuple[int, int], then: tuple[int, int]) -> Comparison:
    (n_now, all_now), (n_then, all_then) = now, then
    share_now = round(n_now / all_now, 6) if all_now else None
    share_then = round(n_then / all_then, 6)
    if few := _too_few(all_now, all_then):
        return Comparison(what, few, None, share_now, share_then, all_now, all_then)
    chance = float(fisher_exact(np.array([[n_now, all_now - n_now], [n_then, all_then - n_then]])).pvalue)
    changed = chance < LEVEL
    verdict = "as often as in training, as far as can be told"
    if changed:
        verdict = f"{'more' if n_now * all_then > n_then * all_now else 'less'} often than in training"
    return Comparison(what, verdict, changed, share_now, share_then, all_now, all_then, _told(chance))


def _too_few(now: int, then: int) -> str:
    if min(now, then) >= FEWEST:
        return ""
    return f"too few scans to say: {now} now, {then} in training; it takes {FEWEST} of each"


def _told(p: float) -> float:
    return float(f"{p:.3g}")
