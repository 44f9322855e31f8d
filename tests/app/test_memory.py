"""What all browser tabs hold together: bounded, the oldest goes first, nothing is lost for good."""

import threading
import time

import numpy as np
import pytest

from app.memory import Memory, Slots


def array(value: int, count: int = 10) -> np.ndarray:
    return np.full(count, value, np.uint8)


def refuse() -> np.ndarray:
    raise AssertionError("it is still there")


def test_what_was_asked_for_longest_ago_goes_first():
    memory = Memory(30)
    for number in range(3):
        memory.keep((number, "voxels"), array(number))
    assert memory.get((0, "voxels"), refuse)[0] == 0
    memory.keep((3, "voxels"), array(3))
    assert memory.used == 30
    assert memory.get((0, "voxels"), refuse)[0] == 0
    assert memory.get((1, "voxels"), lambda: array(9))[0] == 9


def test_the_newest_stays_however_large_it_is():
    memory = Memory(30)
    memory.keep((0, "voxels"), array(0))
    memory.keep((1, "voxels"), array(1, 100))
    assert memory.used == 100
    memory.keep((2, "voxels"), array(2))
    assert memory.used == 10


def test_one_owner_is_forgotten():
    memory = Memory(100)
    for key in ((0, "voxels"), (0, "heat nodule"), (1, "voxels")):
        memory.keep(key, array(key[0]))
    memory.forget(0)
    assert memory.used == 10
    memory.forget(0)


def test_what_can_not_be_made_is_not_kept():
    memory = Memory(100)
    with pytest.raises(AssertionError, match="still there"):
        memory.get((0, "voxels"), refuse)
    assert memory.used == 0


def test_many_readers_at_once_never_pass_the_limit():
    memory, seen = Memory(50), []

    def read(owner: int) -> None:
        for turn in range(200):
            found = memory.get(((owner + turn) % 12, "voxels"), lambda n=(owner + turn) % 12: array(n))
            seen.append((memory.used, int(found[0]) == (owner + turn) % 12))

    threads = [threading.Thread(target=read, args=(owner,)) for owner in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 12 * 200
    assert max(used for used, _ in seen) <= 50
    assert all(own for _, own in seen)


def test_so_many_are_at_work_at_once_and_may_enter_again():
    slots, inside, most = Slots(2), [], []

    def work() -> None:
        with slots, slots:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 10, "nobody waits for ever"
    assert max(most) <= 2
