"""Which scans a model accepts."""

from pipeline.domain import ReadRules, Reason, Scan, ScanError


def check_accepted(scan: Scan, rules: ReadRules) -> None:
    """Refuse a scan that the rules exclude, before it is read.

    Raises:
        ScanError: modality.
    """
    if not scan.modality:
        if not rules.allow_unknown_modality:
            raise ScanError(Reason.MODALITY, "the scan names no modality; read.allow_unknown_modality is off")
    elif rules.modalities and scan.modality not in rules.modalities:
        raise ScanError(Reason.MODALITY, f"expected {' or '.join(rules.modalities)}, found {scan.modality[:16]}")


def check_slices(count: int, rules: ReadRules) -> None:
    """Refuse a volume of fewer slices than the rules ask for.

    Raises:
        ScanError: too_few_slices.
    """
    if count < rules.min_slices:
        raise ScanError(Reason.TOO_FEW_SLICES, f"{count} slices; read.min_slices asks for at least {rules.min_slices}")
