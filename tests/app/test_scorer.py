"""Scoring in the background: the same numbers as a scan that is opened, refusals kept, stopped when told."""

import time
from pathlib import Path

import pytest

from app import scorer as module
from app import session
from app.scorer import Scorer
from pipeline.domain import Prediction, Reason, Scan, ScanError
from pipeline.model.package import load_model
from pipeline.scans.find import find_scans


def wait(scorer: Scorer) -> None:
    end = time.monotonic() + 60
    while scorer.job is not None:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(model_folder)


def test_every_scan_gets_a_score_and_the_same_as_opened(model, scans):
    found = find_scans(scans)[0]
    gone = Scan("0" * 16, Path("/none"), (Path("/none/x.nii"),), "nifti")
    scorer = Scorer(model)
    scorer.start([*found, gone])
    job = scorer.job
    scorer.start(found)  # a second click changes nothing
    assert scorer.job is job
    wait(scorer)
    assert not scorer.failed
    assert (job.done, job.total) == (3, 3)
    for scan in found:
        outcome = scorer.scores[scan.scan_id].outcome
        assert isinstance(outcome, Prediction)
        assert outcome.probabilities == session.open_scan(model, scan).result.probabilities
    refused = scorer.scores[gone.scan_id].outcome
    assert isinstance(refused, ScanError)
    assert refused.reason == "io_error"


def test_a_batch_with_an_input_that_the_network_cannot_take_is_done_one_by_one(model, scans, monkeypatch):
    found = find_scans(scans)[0]
    real = type(model).predict_inputs

    def picky(self, inputs, ids):
        if found[0].scan_id in ids:
            raise ScanError(Reason.NON_FINITE, "not a finite number")
        return real(self, inputs, ids)

    monkeypatch.setattr(type(model), "predict_inputs", picky)
    scorer = Scorer(model)
    scorer.start(found)
    wait(scorer)
    assert isinstance(scorer.scores[found[0].scan_id].outcome, ScanError)
    assert isinstance(scorer.scores[found[1].scan_id].outcome, Prediction)


def test_it_stops_when_told_and_keeps_what_is_scored(model, scans, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 1)
    scorer = Scorer(model)
    with model.in_use:  # the first scan waits for the network
        scorer.start(find_scans(scans)[0])
        scorer.stop()
    wait(scorer)
    assert len(scorer.scores) <= 1
    assert not scorer.failed


def test_a_fault_ends_the_job_and_is_seen(model, scans, monkeypatch):
    def burst(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(module, "run_isolated", burst)
    scorer = Scorer(model)
    assert not scorer.failed
    scorer.start(find_scans(scans)[0])
    wait(scorer)
    assert scorer.failed
