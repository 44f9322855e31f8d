"""One scan's prediction as a DICOM structured report (TID 1500, Comprehensive SR)."""

import hashlib
import re
from collections.abc import Mapping

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline.domain import OperatingPoint, Prediction
from pipeline.results.dicom_source import (
    MANUFACTURER,
    RESEARCH_ONLY,
    SCHEME,
    Author,
    Source,
    derived_uid,
    own_attributes,
    uid_of,
)
from pipeline.scans.boundary import refusing

MAX_REFERENCES = 1000
"""Source images in all groups together (500 images in each of 14 groups took 12 s); evidence lists them in any case."""
SERIES_NUMBER = 9900
"""High, so that it sorts behind the study's own series."""

PROBABILITY = Code("PROBABILITY", SCHEME, "Calibrated probability of the finding")
THRESHOLD = Code("THRESHOLD", SCHEME, "Threshold of the operating point")
SPREAD = Code("SPREAD", SCHEME, "Standard deviation over the ensemble")
OUTCOME = Code("OUTCOME", SCHEME, "Result at the operating point")
FAMILIAR = Code("IN_DISTRIBUTION", SCHEME, "Scan resembles the training scans")
POSITIVE, NEGATIVE = Code("10828004", "SCT", "Positive"), Code("260385009", "SCT", "Negative")
YES, NO = Code("373066001", "SCT", "Yes"), Code("373067005", "SCT", "No")

PROCEDURES = {
    "CT": codes.LN.CTUnspecifiedBodyRegion,
    "MR": codes.LN.MRIUnspecifiedBodyRegion,
    "PT": codes.LN.PETUnspecifiedBodyRegion,
    "NM": codes.LN.NMUnspecifiedBodyRegion,
    **dict.fromkeys(("CR", "DX", "RF", "XA", "MG"), codes.LN.XRUnspecifiedBodyRegion),
}
"""Modality -> procedure reported (CID 100)."""

ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


def structured_report(
    source: Source, prediction: Prediction, points: Mapping[str, OperatingPoint], author: Author
) -> ComprehensiveSR:
    """The report: a measurement group a finding, with what made it and the images that it comes from.

    Args:
        source: The scan's images.
        prediction: Of that scan.
        points: Finding -> operating point; findings without one get a probability and no result.
        author: The model and this software.

    Raises:
        ScanError: If the source's headers can't be put into a report.
    """
    with refusing("the source of the report"):
        few = len(source.images) * len(prediction.probabilities) <= MAX_REFERENCES
        images = [SourceImageForMeasurementGroup.from_source_image(image) for image in source.images if few]
        groups = [
            _group(finding, prediction, points.get(finding), author, images, source)
            for finding in prediction.probabilities
        ]
        content = MeasurementReport(
            observation_context=ObservationContext(observer_device_context=_observer(author)),
            procedure_reported=PROCEDURES.get(str(source.first.get("Modality")), ANY_PROCEDURE),
            imaging_measurements=groups,
            title=codes.DCM.ImagingMeasurementReport,
        )
        report = ComprehensiveSR(
            evidence=list(source.images),
            content=content,
            is_complete=True,
            is_final=True,
            is_verified=False,
            **own_attributes("SR", "AI result", SERIES_NUMBER, source, author),
        )
        report.CompletionFlagDescription = RESEARCH_ONLY
        report.CodingSchemeIdentificationSequence = [
            CodingSchemeIdentificationItem(SCHEME, name="scanline: findings are named by each model")
        ]
        return report


def finding_code(finding: str) -> Code:
    """The finding in our own scheme: what a model calls it, for no standard code can be guessed from its name."""
    plain = re.fullmatch(r"[\w=.+-]{1,16}", finding, re.ASCII)
    value = finding if plain else hashlib.sha256(finding.encode()).hexdigest()[:16]
    meaning = finding.replace("\\", "/").strip()
    return Code(value, SCHEME, meaning if len(meaning) <= 64 else f"{meaning[:61]}...")


def _group(
    finding: str, prediction: Prediction, point: OperatingPoint | None, author: Author,
    images: list[SourceImageForMeasurementGroup], source: Source,
) -> MeasurementsAndQualitativeEvaluations:  # fmt: skip
    """What the report says of one finding (TID 1501)."""
    algorithm = _algorithm(author, point)
    measured = [(PROBABILITY, prediction.probabilities[finding])]
    if point:
        measured.append((THRESHOLD, point.threshold))
    if prediction.spread:
        measured.append((SPREAD, prediction.spread))
    said = []
    if finding in prediction.positive:
        said.append((OUTCOME, POSITIVE if prediction.positive[finding] else NEGATIVE))
    if prediction.in_distribution is not None:
        said.append((FAMILIAR, YES if prediction.in_distribution else NO))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid(f"finding {finding}", source, author), identifier=finding_code(finding).meaning
        ),
        finding_type=finding_code(finding),
        algorithm_id=algorithm,
        measurements=[
            Measurement(name=name, value=round(100 * value, 4), unit=codes.UCUM.Percent) for name, value in measured
        ],
        qualitative_evaluations=[QualitativeEvaluation(name=name, value=value) for name, value in said],
        source_images=images or None,
    )


def _algorithm(author: Author, point: OperatingPoint | None) -> AlgorithmIdentification:
    parameters = [f"model {author.model_id}", RESEARCH_ONLY]
    if point:
        parameters.append(f"operating point: {point.target}, chosen on {point.chosen_on}")
    return AlgorithmIdentification(name=author.name, version=author.version, parameters=parameters)


def _observer(author: Author) -> ObserverContext:
    model_hash = author.model_id.rpartition("-")[2]
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=uid_of(author.model_id),
            name=author.name,
            manufacturer_name=MANUFACTURER,
            model_name=author.name,
            serial_number=model_hash,
        ),
    )
