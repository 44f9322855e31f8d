"""What a model's maps are worth: do they depend on its weights, survive a little noise, and point at the lesion?"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from pipeline.console import Report, count
from pipeline.domain import Scan, ScanError, UsageError, Volume
from pipeline.explanation.gradcam import Way, grid_saliency, to_volume
from pipeline.explanation.trust import MapTrust
from pipeline.model.integrity import identity, listing
from pipeline.model.package import Model
from pipeline.model.preprocess import ModelInput, preprocess
from pipeline.model.stages import heights
from pipeline.scans.find import read_volume, relative_path

SCANS = 8
"""Scans of the two checks that need no masks."""
MASKS = 50
"""Scans with masks of the pointing game: enough to tell 0.8 from 0.6."""
NOISE = 0.05
"""Standard deviation of the noise, as a share of the input's own."""
LEAST_STEADY = 0.8
"""Rank correlation with the maps of noisy inputs that is demanded."""
MOST_ALIKE = 0.5
"""Rank correlation with the maps of a network of shuffled weights that is tolerated."""
LEAST_HITS = 0.8
"""Share of peaks in the lesion that is demanded."""
EMPTY = "Maps of this model are not to be trusted: they are empty on the scans that were looked at."

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Masked:
    """One scan to check maps with.

    Attributes:
        scan: It.
        masks: Finding -> file whose voxels above 0 are the lesion, in a space of its own; may be empty.
    """

    scan: Scan
    masks: Mapping[str, Path]


def masks_of(scans: Sequence[Scan], root: Path, folder: Path | None, findings: Sequence[str]) -> list[Masked]:
    """The scans that have masks; all scans, without masks, where there is no folder of them.

    A mask lies in `folder` where its scan lies in `root`: `P1/chest.nii.gz` for the series `P1/chest` and for the file
    `P1/chest.nii.gz`; for a model of several findings within a sub-folder named like the finding.

    Raises:
        UsageError: If no scan has a mask.
    """
    if folder is None:
        return [Masked(scan, {}) for scan in scans]
    roots = {finding: folder / finding if len(findings) > 1 else folder for finding in findings}
    found = []
    for scan in scans:
        path = relative_path(scan.path, root)
        name = path if path.endswith(".nii.gz") else f"{path.removesuffix('.nii')}.nii.gz"
        masks = {finding: own / name for finding, own in roots.items() if (own / name).is_file()}
        found += [Masked(scan, masks)] if masks else []
    if not found:
        raise UsageError(
            f"--masks {folder}: holds no mask for {count(len(scans), 'scan')}; expected for example "
            f"{roots[findings[0]].relative_to(folder.parent) / 'PATH OF THE SCAN.nii.gz'}"
        )
    return found


def check_maps(model: Model, scans: Sequence[Masked], way: Way, report: Report) -> MapTrust:
    """What the model's maps are worth.

    Raises:
        UsageError: If none of the scans can be used.
    """
    items, hits, refused = list[ModelInput](), list[bool](), 0
    most = MASKS if any(one.masks for one in scans) else SCANS
    chosen = scans[:: -(-len(scans) // most)] if scans else []
    for done, one in enumerate(chosen, start=1):
        try:
            volume = read_volume(one.scan, model.read_rules)
            item = preprocess(volume, model.preprocess, model.channels)
            hits += [_hit(model, volume, item, finding, mask, way) for finding, mask in one.masks.items()]
            items += [item] if len(items) < SCANS else []
        except ScanError:
            refused += 1
        report(done, len(chosen))
    if not items:
        raise UsageError(
            f"--check: {count(refused, 'scan')} found, each refused or with a refused mask; pipeline.prepare says why"
        )
    arrays = np.stack([item.array for item in items])
    plain = _all_maps(model, arrays, way)
    randomised = {name: _alike(plain, _all_maps(other, arrays, way)) for name, other in _cascade(model)}
    steady = _alike(plain, _all_maps(model, _noisy(arrays), way))
    trust = MapTrust(
        None, "", way.method, way.layer, identity(listing(model.folder)), len(items), randomised, steady,
        sum(hits) if hits else None, len(hits) or None, refused,
    )  # fmt: skip
    return _judged(trust) if plain.any() else replace(trust, trusted=False, sentence=EMPTY)


def _hit(model: Model, volume: Volume, item: ModelInput, finding: str, mask: Path, way: Way) -> bool:
    """Whether the map's peak lies in the lesion, by its place in the patient."""
    output = model.findings.index(finding)
    found = to_volume(grid_saliency(model, item.array[np.newaxis], output, way)[0], item, volume)
    lesion = read_volume(mask)
    peak = np.array([*np.unravel_index(found.argmax(), found.shape), 1.0])
    at = np.rint(np.linalg.inv(lesion.affine) @ volume.affine @ peak)[:3].astype(int)
    inside = all(0 <= a < n for a, n in zip(at, lesion.shape, strict=True))
    return bool(found.any() and inside and lesion.voxels[tuple(at)] > 0)


def _judged(trust: MapTrust) -> MapTrust:
    """The verdict, with the reasons in words."""
    last = list(trust.randomised.values())[-1]
    wrong, told = list[str](), list[str]()
    if last > MOST_ALIKE:
        wrong.append(f"they hardly change when the weights are shuffled (rank correlation {last:.2f})")
    if trust.noise < LEAST_STEADY:
        wrong.append(f"a little noise changes them (rank correlation {trust.noise:.2f})")
    if trust.hit_rate is not None:
        pointing = f"the peak lies in the lesion in {trust.hits} of {count(trust.n_masks or 0, 'scan')} with a mask"
        (told if trust.hit_rate >= LEAST_HITS else wrong).append(pointing)
    told.append(f"rank correlation {last:.2f} after the weights were shuffled, {trust.noise:.2f} under noise")
    if wrong:
        return replace(trust, trusted=False, sentence=f"Maps of this model are not to be trusted: {'; '.join(wrong)}.")
    if trust.hit_rate is None:
        return replace(
            trust, trusted=None, sentence=f"Whether these maps point at lesions was not measured; {'; '.join(told)}."
        )
    return replace(trust, trusted=True, sentence=f"Maps of this model passed their checks: {'; '.join(told)}.")


def _all_maps(model: Model, arrays: Maps, way: Way) -> Maps:
    """[finding and scan, (z,) y, x]."""
    return np.concatenate([grid_saliency(model, arrays, output, way) for output in range(len(model.findings))])


def _alike(maps: Maps, others: Maps) -> float:
    """Spearman's rank correlation of each map with its other, the mean; nothing in common with an empty map."""
    both = [(a.ravel(), b.ravel()) for a, b in zip(maps, others, strict=True) if a.any()]
    each = [float(spearmanr(a, b).statistic) if np.ptp(b) > 0 and np.ptp(a) > 0 else 0.0 for a, b in both]
    return round(float(np.mean(each)), 4) if each else 0.0


def _noisy(arrays: Maps) -> Maps:
    noise = np.random.default_rng(0).standard_normal(arrays.shape, dtype=np.float32)
    spread = arrays.reshape(len(arrays), -1).std(axis=1).reshape(-1, *(1,) * (arrays.ndim - 1))
    return np.asarray(arrays + np.float32(NOISE) * spread * noise, dtype=np.float32)


def _cascade(model: Model) -> Iterator[tuple[str, Model]]:
    """The model with its head shuffled, then the stage below too, and so on (Adebayo 2018, section 4.1)."""
    networks = copy.deepcopy(model.networks)
    top = max(heights(networks[0]).values())
    generator = torch.Generator().manual_seed(0)
    for stage in range(top, -1, -1):
        for network in networks:
            _shuffle(network, stage, generator)
        yield {top: "head", 0: "stem"}.get(stage, f"stage {stage}"), replace(model, networks=networks)


def _shuffle(network: nn.Module, stage: int, generator: torch.Generator) -> None:
    """Put the values of each tensor of a stage in random order: what they were trained to is gone, their size stays."""
    height = heights(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if height[name] == stage:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
