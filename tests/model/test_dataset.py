"""Loaders: whole batches, in an order that seed and epoch decide."""

import numpy as np
import torch

from pipeline.model.dataset import ScanDataset, plain_loader, train_loader


def dataset(n: int) -> ScanDataset:
    """Scans filled with their row's number; of 2 n rows, the odd ones."""
    inputs = np.broadcast_to(np.arange(2 * n, dtype=np.float32)[:, None, None, None], (2 * n, 1, 3, 4)).copy()
    return ScanDataset(inputs, np.arange(2 * n, dtype=np.float32)[:, None], range(1, 2 * n, 2))


def test_a_batch_holds_its_rows_and_nothing_of_the_file() -> None:
    scans = dataset(5)
    batches = list(plain_loader(scans, 2))
    assert [rows for _, _, rows in batches] == [[1, 3], [5, 7], [9]]
    for inputs, targets, rows in batches:
        assert inputs[:, 0, 0, 0].tolist() == targets[:, 0].tolist() == rows
        inputs.zero_()
    assert scans.inputs.max() == 9


def test_each_epoch_has_an_order_of_its_own_and_no_batch_of_one() -> None:
    loader = train_loader(dataset(9), 4, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        orders.append([rows for _, _, rows in loader])
    assert orders[0] == orders[2] != orders[1]
    assert [len(rows) for rows in orders[0]] == [4, 4]


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    ((inputs, targets, rows),) = train_loader(dataset(3), 8, seed=0)
    assert sorted(rows) == [1, 3, 5]
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.float32)
