"""Which slices speak for a finding: a curve along the scan, of models that look at slices one by one."""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.domain import Volume
from pipeline.model.package import Model
from pipeline.model.preprocess import preprocess


def slice_evidence(model: Model, volume: Volume, finding: str) -> NDArray[np.float32]:
    """What the model's slice at each slice k of the volume adds to the finding's logit, float32 [k].

    Positive speaks for the finding, negative against it; the mean over the ensemble's members, before calibration.
    Between the model's own slices it is linear; outside its grid it is 0.

    Raises:
        ScanError: If the volume does not fit the model.
        KeyError: If the model has no such finding.
        UsageError: If the model does not look at slices one by one (model.architecture: slices).
    """
    if finding not in model.findings:
        raise KeyError(f"the model predicts {', '.join(model.findings)}, not {finding}")
    item = preprocess(volume, model.preprocess, model.channels)
    inputs = torch.from_numpy(item.array[np.newaxis]).to(model.device)
    with model.in_use, torch.inference_mode():
        members = torch.stack([network.slice_evidence(inputs)[0] for network in model.networks])
    own = members.mean(0)[model.findings.index(finding)].cpu().numpy()
    i, j, k = volume.shape
    centres = np.stack([np.full(k, (i - 1) / 2), np.full(k, (j - 1) / 2), np.arange(k), np.ones(k)])
    z = (np.linalg.inv(item.affine) @ volume.affine @ centres)[2]
    inside = (z >= -0.5) & (z <= len(own) - 0.5)
    return np.where(inside, np.interp(z, np.arange(len(own)), own), 0).astype(np.float32)
