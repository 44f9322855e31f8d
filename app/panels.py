"""The page's words and HTML: banner, result cards, warnings, footer. Text from outside is escaped. No Streamlit."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from app.language import Words
from pipeline.domain import Identity, OperatingPoint, Prediction, Rejection, Scan, ScanError, Volume
from pipeline.scans.find import relative_path

RESEARCH_ONLY = "Research use only. Not a medical device."
NAMELESS_UPLOAD = "<style>[data-testid='stFileChipName'] { visibility: hidden; }</style>"
"""Hides the name of an uploaded file, which Streamlit shows by itself."""
WORDS = {
    "no_rescale": "The scan does not tell how its values map to HU.",
    "no_spacing": "The scan does not tell its voxel spacing: proportions may be wrong.",
    "localizer_dropped": "A localizer in the same series was left out.",
    "duplicate_slices": "Some slices were there twice; one of each was used.",
    "no_suv": "PET values are not SUV: the scan does not tell all that is needed.",
    "gantry_tilt": "The gantry was tilted.",
    "tilt_straightened": "The tilted slices were resampled on a straight grid.",
    "gaps_filled": "Slices are missing; the gaps were filled from their neighbours.",
    "no_geometry": "A lone slice that does not tell where it lies in the patient.",
    "blank": "Every voxel has the same value.",
    "anisotropy": "The slices lie more than ten pixels apart: much lies unseen between them.",
    "detector_spacing": "The pixel spacing is the detector's: in the patient, distances are smaller.",
    "laterality": "The scan contradicts itself about left and right, or does not name a side where it must.",
    "phantom": "The scan says that it shows a phantom.",
}
"""Warning code -> a sentence for the reader; other codes are shown as they are."""


def banner(words: Words, identity: Identity, hidden: bool) -> str:
    """Who is on show: name, ID, birth date, study date; a fixed bar at the top of the page."""
    if hidden:
        return _bar(f"<b>{escape(words('shell.hidden'))}</b>")
    fields = (
        ("name", readable_name(identity.patient_name)), ("id", identity.patient_id),
        ("born", readable_date(identity.birth_date)), ("study", readable_date(identity.study_date)),
    )  # fmt: skip
    if not any(text for _, text in fields):
        unknown = escape(words("shell.unknown_patient"))
        return _bar(f"<b>{unknown}</b><span>{escape(words('shell.unknown_hint'))}</span>")
    shown = ((words(f"shell.{key}"), text or words("shell.unknown")) for key, text in fields)
    return _bar("".join(f"<span><i>{escape(label)}</i> <b>{escape(text)}</b></span>" for label, text in shown))


def empty_banner(words: Words) -> str:
    """The bar at the top while no scan is open."""
    return _bar(f"<b>{escape(words('shell.no_scan'))}</b>")


def _bar(content: str) -> str:
    return f"<div class='banner' role='banner' aria-label='Patient'>{content}</div>"


def footer(words: Words, model: str) -> str:
    """The bar at the bottom of the page: what this is not, and which model speaks."""
    name = f"<span>{escape(words('result.model', model=model))}</span>" if model else ""
    not_a_device = escape(words("result.research_only"))
    return f"<div class='footer' role='contentinfo'><strong>{not_a_device}</strong>{name}</div>"


def alert(text: str) -> str:
    """A refusal or an error. HTML, not Streamlit's own box: that reads Markdown, and a file could smuggle links in."""
    return f"<div class='alert' role='alert'>{escape(text)}</div>"


def readable_name(name: str) -> str:
    """A DICOM person name (PS3.5 6.2, "Family^Given^Middle^Prefix^Suffix") as "Family, Given Middle"."""
    family, _, rest = name.split("=", maxsplit=1)[0].partition("^")
    given = " ".join(part for part in rest.split("^") if part.strip())
    return f"{family}, {given}" if given else family


def readable_date(date: str) -> str:
    """YYYYMMDD as YYYY-MM-DD; anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def scan_label(scan: Scan, number: int, root: Path, hidden: bool) -> str:
    """A line of the scan list: path, group, modality and date; in a reader study only a number and the modality."""
    modality = scan.modality or {"dicom": "DICOM", "nifti": "NIfTI", "image": "image"}[scan.kind]
    if hidden:
        return f"Scan {number} · {modality}"
    parts = [relative_path(scan.path, root), scan.group, modality, readable_date(scan.acquired)]
    return " · ".join(part for part in parts if part)


def rejection_item(rejection: Rejection, number: int, root: Path, hidden: bool, nameless: str = "Refused scan") -> str:
    """One refused scan (or one not selected): where it is, the reason's code, and the words that say what to do."""
    where = f"{nameless} {number}" if hidden else relative_path(rejection.path, root)
    return (
        f"<div class='refused'><b>{escape(where)}</b><code>{rejection.reason.value}</code>"
        f"<p>{escape(rejection.detail)}</p></div>"
    )


def result_card(finding: str, prediction: Prediction, point: OperatingPoint | None) -> str:
    """One finding's calibrated probability as a number, a bar with the operating point, and words."""
    probability, words = prediction.probabilities[finding], operating_point_words(point)
    verdict, mark = "", ""
    if point is not None:
        word = "positive" if prediction.positive[finding] else "negative"
        verdict = f"<span class='verdict {word}'>{word}</span>"
        mark = f"<div class='mark' style='left:{100 * point.threshold:.1f}%'></div>"
    fill = f"<div class='fill' style='width:{100 * probability:.1f}%'></div>"
    return (
        f"<div class='card'><div class='finding'>{escape(finding)}{verdict}</div>"
        f"<div class='probability'>{escape(percent(probability))}"
        f"<small>calibrated probability {escape(number(probability))}</small></div>"
        f"<div class='bar' role='img' aria-label='{escape(percent(probability))}'>{fill}{mark}</div>"
        f"<div class='point'>{escape(words)}</div></div>"
    )


def percent(probability: float) -> str:
    """A probability in percent; never "0 %" or "100 %", which would claim certainty."""
    if probability < 0.01:
        return "< 1 %"
    return "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def number(probability: float) -> str:
    """A probability with 3 decimals, the same way."""
    if probability < 0.001:
        return "< 0.001"
    return "> 0.999" if probability > 0.999 else f"{probability:.3f}"


def operating_point_words(point: OperatingPoint | None) -> str:
    """What "positive" means, in words."""
    if point is None:
        return "The model has no operating point for this finding: read the probability only."
    target = "the best sum of sensitivity and specificity (Youden)" if point.target == "youden" else point.target
    return f"Positive: at or above {number(point.threshold)}, chosen on the {point.chosen_on} split for {target}."


def doubts(prediction: Prediction, members: int) -> list[str]:
    """How sure the model is, one sentence each."""
    found = [f"Uncertainty {prediction.uncertainty:.2f} bit (0: sure, 1: can't tell)."]
    if members > 1:
        found.append(f"The {members} models of the ensemble differ by {prediction.spread:.2f} (standard deviation).")
    return found


def warnings(prediction: Prediction | ScanError, volume: Volume) -> list[str]:
    """What the reader should know before trusting the result, one sentence each."""
    codes: Sequence[str] = volume.warnings
    found = []
    if isinstance(prediction, Prediction):
        codes = (*codes, *prediction.warnings)
        if prediction.in_distribution is False:
            found.append("This scan is unlike those that the model learned from: its probability may be meaningless.")
    told = [code for code in dict.fromkeys(codes) if code != "ood"]  # said above, from the flag itself
    return found + [WORDS.get(code, f"Warning: {code.replace('_', ' ')}.") for code in told]


def refusal_words(error: ScanError) -> str:
    """Why a scan is not shown, or not scored."""
    return f"Refused ({error.reason.value}): {error.detail}"


def purpose(words: str) -> str:
    """What the model is for, in its owner's words."""
    return f"<p class='purpose'>Made for: {escape(words)}</p>"


def tile(name: str, value: str, interval: str, change: str | None = None) -> str:
    """One number of the performance page: its name, its interval, and how many points it has moved."""
    moved = f"<span class='moved'>{escape(change)}</span>" if change else ""
    return (
        f"<div class='tile'><div class='name'>{escape(name)}</div><div class='value'>{escape(value)}{moved}</div>"
        f"<div class='interval'>{escape(interval)}</div></div>"
    )
