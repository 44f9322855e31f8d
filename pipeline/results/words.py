"""Numbers in words: one way to write a metric with its interval, for terminal, report and model card alike."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from pipeline.console import count

Measure: TypeAlias = Mapping[str, Any]
"""{"value", "low", "high", "level", "method", "n"}, with a "reason" where something is null."""

NAMES = {
    "auroc": "AUROC",
    "partial_auroc": "Partial AUROC",
    "average_precision": "Average precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "brier": "Brier score",
    "positive_likelihood_ratio": "LR+",
    "negative_likelihood_ratio": "LR−",
    "ppv_at_prevalence": "PPV at the given prevalence",
    "npv_at_prevalence": "NPV at the given prevalence",
    "macro_auroc": "Macro AUROC",
    "macro_average_precision": "Macro average precision",
    "micro_auroc": "Micro AUROC",
    "micro_average_precision": "Micro average precision",
    "top_2_accuracy": "Top-2 accuracy",
    "top_3_accuracy": "Top-3 accuracy",
    "top_5_accuracy": "Top-5 accuracy",
    "slope": "Calibration slope",
    "intercept": "Calibration intercept",
    "ece": "Expected calibration error",
}
MEANINGS = {
    "auroc": "how often a scan with the finding ranks above one without",
    "partial_auroc": "the same where few false alarms are allowed; 0.5 is chance",
    "average_precision": "precision, averaged over all recalls",
    "sensitivity": "of the scans with the finding, the share called positive",
    "specificity": "of the scans without it, the share called negative",
    "ppv": "of the positive calls, the share that is right (at this prevalence)",
    "npv": "of the negative calls, the share that is right (at this prevalence)",
    "accuracy": "share of all calls that is right",
    "balanced_accuracy": "mean of sensitivity and specificity; with classes, mean recall",
    "f1": "harmonic mean of PPV and sensitivity",
    "mcc": "correlation of call and truth",
    "brier": "mean squared error of the probability; lower is better",
    "positive_likelihood_ratio": "how much a positive call raises the odds",
    "negative_likelihood_ratio": "how much a negative call lowers the odds",
    "macro_auroc": "mean AUROC over the findings",
    "macro_average_precision": "mean average precision over the findings",
    "ppv_at_prevalence": "what a positive call would mean where the finding is as frequent as was given",
    "npv_at_prevalence": "what a negative call would mean there",
    "micro_auroc": "AUROC of all pairs of scan and finding in one pot",
    "micro_average_precision": "average precision of all pairs of scan and finding in one pot",
    "top_2_accuracy": "the right class is among the 2 most probable",
    "top_3_accuracy": "the right class is among the 3 most probable",
    "top_5_accuracy": "the right class is among the 5 most probable",
    "slope": "1 is calibrated; below 1 the probabilities are too extreme",
    "intercept": "0 is calibrated; above 0 the probabilities are too low",
    "ece": "mean distance of probability and frequency",
}
SPLITS = {
    "test": "held out for the test",
    "oof": "predicted out of fold, each by a model that had not seen the patient",
    "tune": "of the tune split, which also chose the checkpoint and the threshold: expect less on new patients",
    "all": "of the given table",
}


def plain(value: float | None, places: int = 2) -> str:
    """A number with a fixed number of decimals, a dash for none; never "1.00" for less than 1, and never "−0.00"."""
    if value is None:
        return "–"
    text = f"{value:z.{places}f}"
    if value < 1 and text == f"{1:.{places}f}":
        return f"> {1 - 10**-places:.{places}f}"
    return text.replace("-", "−")


def with_interval(found: Measure, places: int = 2) -> str:
    """`0.97 (0.91 to 0.99)`, or the reason why there is none."""
    if found["value"] is None:
        return f"undefined: {found['reason']}"
    if found["low"] is None:
        return f"{plain(found['value'], places)} (no interval)"
    return f"{plain(found['value'], places)} ({plain(found['low'], places)} to {plain(found['high'], places)})"


def percent(level: float) -> str:
    """`95 %`."""
    return f"{100 * level:g} %"


def headline(numbers: Mapping[str, Any], split: str) -> list[str]:
    """One line a finding (and one over all): `test AUROC nodule 0.97 (95 % interval 0.91 to 0.99, 24 patients)`."""
    rows = [(f"AUROC {finding}", found["auroc"]) for finding, found in numbers["findings"].items()]
    if "overall" in numbers:
        rows.insert(0, ("macro AUROC", numbers["overall"]["macro_auroc"]))
    return [f"{split} {name} {_line(found, numbers['n_patients'])}" for name, found in rows]


def _line(found: Measure, patients: int) -> str:
    if found["value"] is None:
        return f"undefined: {found['reason']}"
    if found["low"] is None:
        return f"{plain(found['value'])} (no interval: {found['reason']}; {count(patients, 'patient')})"
    interval = f"{percent(found['level'])} interval {plain(found['low'])} to {plain(found['high'])}"
    return f"{plain(found['value'])} ({interval}, {count(patients, 'patient')})"


def answer(numbers: Mapping[str, Any], finding: str) -> list[str]:
    """What the ranking and the operating point mean for one finding, a sentence each."""
    found = numbers["findings"][finding]
    area, cells, point = found["auroc"], found["confusion"], found["operating_point"]
    if area["value"] is None:
        said = [f"How well it ranks can't be said: {area['reason']}."]
    else:
        said = [
            f"Of 100 pairs of one scan with {finding} and one without, "
            f"it ranks {pairs(area['value'])} in the right order."
        ]
    if cells is None:
        return [*said, f"There are no decisions to judge: {point.get('reason', '')}."]
    where = {"tune": "fixed on the tune split", "oof": "fixed on the other folds", "given": "that was given"}
    threshold = "" if point["threshold"] is None else f" {plain(point['threshold'], 3)}"
    fixed = where.get(str(point["chosen_on"]), f"fixed on {point['chosen_on']}")
    with_finding, without = cells["tp"] + cells["fn"], cells["tn"] + cells["fp"]
    return [
        *said,
        f"At the threshold{threshold} {fixed} it finds {cells['tp']} of {count(with_finding, 'scan')} with {finding}, "
        f"and calls {cells['tn']} of {count(without, 'scan')} without it negative.",
    ]


def population(numbers: Mapping[str, Any], split: str) -> str:
    """`24 patients, 32 scans, held out for the test`."""
    where = SPLITS.get(split, f"of split {split}")
    return f"{count(numbers['n_patients'], 'patient')}, {count(numbers['n_scans'], 'scan')}, {where}"


def consequences(found: Mapping[str, Any]) -> list[str]:
    """What the numbers of one finding mean for use: at another prevalence, and when unsure scans are referred."""
    said, there, sets = [], found.get("at_prevalence"), found.get("abstention", {})
    if there and there["ppv"]["value"] is not None and there["npv"]["value"] is not None:
        said.append(
            f"Where {100 * there['prevalence']:g} of 100 patients have it, a positive call is right in "
            f"{100 * there['ppv']['value']:.1f} of 100 calls, and a negative one in {100 * there['npv']['value']:.1f}."
        )
    if "coverage" in sets:
        error, referred = sets["error_among_decided"], sets["referred"]["value"]
        kept = f"error {with_interval(error)}" if error["value"] is not None else "none is left"
        said.append(
            f"Prediction sets meant to hold the truth for {percent(sets['stated_coverage'])} of the scans hold it for "
            f"{percent(round(sets['coverage']['value'], 3))}. Referring the scans whose set is not a single answer "
            f"sends {percent(round(referred, 3))} to a reader; among the others: {kept}."
        )
    parts = found["calibration"].get("brier_parts")
    if parts:
        said.append(
            f"Brier score = reliability {parts['reliability']:.3f} − resolution {parts['resolution']:.3f} + "
            f"uncertainty {parts['uncertainty']:.3f} + within bins {plain(parts['within_bins'], 3)}."
        )
    return said


def class_sets(found: Mapping[str, Any]) -> list[str]:
    """What the prediction sets over all classes mean for use; nothing where there are none."""
    if "coverage" not in found:
        return []
    single, error = found["single_answer"], found["error_among_single"]
    kept = f"among those: error {with_interval(error)}" if error["value"] is not None else "so none is decided"
    return [
        f"Prediction sets meant to hold the true class for {percent(found['stated_coverage'])} of the scans of each "
        f"class hold it for {percent(round(found['coverage']['value'], 3))} of all scans, with "
        f"{found['mean_size']:.1f} classes on average. The set is a single class for "
        f"{percent(round(single['value'], 3))} of the scans; {kept}."
    ]


def pairs(area: float) -> str:
    """An AUROC as pairs of 100, never rounded to all of them."""
    if area >= 1:
        return "all"
    return "more than 99" if area >= 0.995 else f"{100 * area:.0f}"


def cautions(numbers: Mapping[str, Any], split: str) -> list[str]:
    """What a reader must know before relying on a split's numbers."""
    found = []
    if split == "tune":
        found.append("The tune split chose the checkpoint, the calibration and the threshold: these numbers flatter.")
    for finding, entry in numbers["findings"].items():
        area, point = entry["auroc"], entry["operating_point"]
        if area["value"] is None:
            found.append(f"{finding}: AUROC undefined, {area['reason']}.")
        elif area["low"] is not None and area["high"] - area["low"] > WIDE:
            few = min(entry["n_positive"], entry["n_scans"] - entry["n_positive"])
            found.append(f"{finding}: the interval is wide; the smaller class holds {count(few, 'scan')}.")
        if entry["confusion"] is None:
            found.append(f"{finding}: {point.get('reason', 'no operating point')}.")
    if numbers["n_rejected"]:
        found.append(f"{count(numbers['n_rejected'], 'scan')} could not be read: no prediction, not in the numbers.")
    if numbers["n_unlabelled"]:
        found.append(f"{count(numbers['n_unlabelled'], 'scan')} had no label: not in the numbers.")
    return found


WIDE = 0.15
"""An AUROC interval wider than this is pointed out."""
