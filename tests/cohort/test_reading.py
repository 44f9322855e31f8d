import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.cohort.reading import Measured, content_sha256, measure_all, measured, spread_sample
from pipeline.domain import ReadRules, Reason, Scan, ScanError, Volume
from tests.cohort.cases import measured as facts_of
from tests.cohort.cases import scan

RULES = ReadRules()


def test_the_hash_tells_voxels_and_shape_but_not_memory_layout() -> None:
    voxels = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    same = np.asfortranarray(voxels)
    assert content_sha256(same[::-1][::-1]) == content_sha256(voxels)
    assert content_sha256(voxels.reshape(3, 2, 4)) != content_sha256(voxels)
    changed = voxels.copy()
    changed[1, 2, 3] += 1
    assert content_sha256(changed) != content_sha256(voxels)


def test_the_hash_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(np.float32)
    whole = content_sha256(voxels)
    monkeypatch.setattr("pipeline.cohort.reading.CHUNK_BYTES", 130)
    assert content_sha256(voxels) == whole


def test_zero_is_zero_whatever_its_sign() -> None:
    assert content_sha256(np.float32([[[-0.0]]])) == content_sha256(np.float32([[[0.0]]]))


def test_a_sample_is_spread_over_rows_and_columns() -> None:
    columns = np.broadcast_to(np.arange(512, dtype=np.float32), (1, 512, 512))
    assert np.mean(spread_sample(columns)) == pytest.approx(255, abs=10)
    assert len(spread_sample(np.zeros((2, 2, 1), np.float32))) == 4


def test_measured_holds_the_facts_of_the_volume() -> None:
    affine = np.diag([0.5, 0.75, 2.5, 1.0])
    facts = measured(scan("a"), Volume(np.ones((2, 3, 4), np.float32), affine, "HU", "LPS", ("no_rescale",)))
    assert (facts.scan_id, facts.shape, facts.spacing_mm) == ("id-a", (2, 3, 4), (0.5, 0.75, 2.5))
    assert (facts.orientation, facts.unit, facts.warnings) == ("LPS", "HU", ("no_rescale",))


def fake(one: Scan, rules: ReadRules) -> Measured:
    """Reads by name: `dies` ends its process, `bad` is refused."""
    if one.path.name.startswith("dies"):
        os._exit(7)
    if one.path.name.startswith("bad"):
        raise ScanError(Reason.TRUNCATED, "too short")
    return facts_of(one.scan_id)


def test_refused_scans_become_rows_with_all_their_files() -> None:
    bad = Scan("x", Path("/s/bad"), (Path("/s/bad/1"), Path("/s/bad/2")), "dicom", aliases=(Path("/s/c/1"),))
    calls: list[tuple[int, int]] = []
    facts, rejections = measure_all([scan("a"), bad], RULES, 0, lambda *call: calls.append(call), fake)
    assert list(facts) == ["id-a"]
    assert [(r.scan_id, r.reason, len(r.files)) for r in rejections] == [("x", Reason.TRUNCATED, 3)]
    assert calls == [(1, 2), (2, 2)]


def test_a_child_that_dies_costs_one_row() -> None:
    scans = [scan(name) for name in ("a", "b", "dies", "c", "bad", "d", "e", "f")]
    facts, rejections = measure_all(scans, RULES, 2, None, fake)
    assert sorted(facts) == ["id-a", "id-b", "id-c", "id-d", "id-e", "id-f"]
    assert {(r.scan_id, r.reason) for r in rejections} == {
        ("id-dies", Reason.DECODER_CRASH), ("id-bad", Reason.TRUNCATED),
    }  # fmt: skip
