import numpy as np
import pytest

from pipeline.model.dataset import Inputs, Refusal
from pipeline.model.gate import Gate, look_of, with_look
from pipeline.model.plan import Job
from pipeline.model.reference import MOST_SCORES, Reference, read_reference, reference_of, write_reference
from pipeline.model.tensor_files import ModelError


def job(learn, watch, select=True):
    return Job("single", np.array(learn), np.array(watch), select)


def inputs(n, refused=()):
    arrays = np.random.default_rng(0).random((n, 1, 4, 4), dtype=np.float32)
    return Inputs(arrays, {row: Refusal("truncated", "", status) for row, status in refused}, refused_by_header=2)


def test_it_holds_the_held_out_scores_in_order_and_counts() -> None:
    p = np.array([[0.9], [0.8], [0.4], [0.2], [0.3]])
    found = reference_of([job([0, 1], [2, 3, 4])], p, ["nodule"], [], [], inputs(5, [(0, "rejected"), (1, "other")]))
    assert found == Reference(
        held_out="tune", n_scans=3, scores={"nodule": (0.2, 0.3, 0.4)}, n_out_of_distribution=None,
        n_found=7, n_rejected=3,
    )  # fmt: skip


def test_many_scores_are_summed_up_from_the_smallest_to_the_largest() -> None:
    p = np.random.default_rng(1).random((1000, 2))
    found = reference_of([job([], range(1000), False)], p, ["a", "b"], [], [], inputs(1000))
    assert found.held_out == "oof"
    assert len(found.scores["b"]) == MOST_SCORES
    assert (found.scores["b"][0], found.scores["b"][-1]) == (p[:, 1].min().round(6), p[:, 1].max().round(6))
    assert found.scores["b"][100] == pytest.approx(np.median(p[:, 1]), abs=1e-6)


def test_each_network_judges_only_what_it_did_not_learn_from() -> None:
    rng, own = np.random.default_rng(2), inputs(60)
    features = [rng.normal(size=(60, 6)).astype(np.float32) for _ in range(2)]
    features[0][30:] += 100  # unlike for the first network, which learned from them
    features[1][:5] += 100  # unlike for the second, which did not
    jobs = [job(range(30, 60), range(30), False), job(range(30), range(30, 60), False)]
    look = look_of(own.arrays)
    gates = [
        Gate.fitted(with_look(features[0], look)[:30], with_look(features[0], look)[:30]),
        Gate.fitted(with_look(features[1], look)[5:], with_look(features[1], look)[5:]),
    ]
    found = reference_of(jobs, np.zeros((60, 1)), ["a"], gates, features, own)
    assert found.n_out_of_distribution == 0
    swapped = [job(j.watch, j.learn, False) for j in jobs]
    assert reference_of(swapped, np.zeros((60, 1)), ["a"], gates, features, own).n_out_of_distribution == 35


def test_without_held_out_scans_there_is_none(tmp_path) -> None:
    assert reference_of([job([0, 1], [])], np.zeros((2, 1)), ["a"], [], [], inputs(2)) is None
    write_reference(tmp_path, None)
    assert read_reference(tmp_path) is None


def test_it_is_read_as_it_was_written(tmp_path) -> None:
    found = reference_of([job([0], [1, 2])], np.array([[0.5], [0.1], [0.7]]), ["a=b"], [], [], inputs(3))
    write_reference(tmp_path, found)
    assert read_reference(tmp_path) == found


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"held_out": "test"}', "[" * 100_000])
def test_what_is_no_reference_is_refused(tmp_path, text) -> None:
    (tmp_path / "reference.json").write_text(text)
    with pytest.raises(ModelError, match=r"reference\.json does not hold a reference"):
        read_reference(tmp_path)
