"""Child processes that read scans: one that hangs or crashes costs one scan, not the run. No torch here or in them."""

import contextlib
import io
import math
import os
import pickle
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process, reduction, resource_tracker, spawn, util
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.context import SpawnProcess, set_spawning_popen
from multiprocessing.popen_spawn_posix import Popen
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from pipeline.domain import Reason, ScanError, UsageError
from pipeline.scans.temporary import remove_left_by

Item = TypeVar("Item")
Result = TypeVar("Result")

TIME_LIMIT_S = 60.0
"""A scan that takes longer to read is refused (reason `timeout`); a CT of 500 compressed slices takes some seconds."""
START_LIMIT_S = 120.0
"""A child that has not imported its modules by then will never be ready."""
MEMORY_FLOOR_BYTES = 4 * 2**30
"""A child may always address this much, about twice what the libraries and a 512 x 512 x 500 volume take."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[Item, Result]):
    """What a child made of one item: a result, or the reason why there is none, and the seconds that it took."""

    item: Item
    result: Result | ScanError
    seconds: float


def run_isolated(
    items: Sequence[Item], work: Callable[[Item], Result], workers: int = 2, time_limit_s: float = TIME_LIMIT_S
) -> Generator[Finished[Item, Result], None, None]:
    """The result of `work` for every item, as they come, each made in a child process.

    A child works on one item at a time and gets the next when its result is taken, so no more than `workers`
    results wait here, however slow the caller is.
    A child that dies gives `decoder_crash`, one that runs over the time limit is killed and gives `timeout`, one that
    asks for more than its share of the memory gives `too_large`; the next item gets a new child.

    Args:
        items: What to work on; picklable.
        work: A picklable function (of a module, or a partial of one).
        workers: Child processes.
        time_limit_s: Seconds that one item may take.

    Raises:
        UsageError: If a child ends before it is ready for its first item.
    """
    waiting = deque(items)
    children = [_Child(work, workers, time_limit_s) for _ in range(min(workers, len(waiting)))]
    try:
        while children:
            left = min(child.deadline for child in children) - _now()
            ready = wait([child.pipe for child in children], timeout=max(0.0, left))
            for child in [c for c in children if c.pipe in ready or c.deadline <= _now()]:
                finished = child.take() if child.pipe in ready else child.overdue()
                if waiting and not child.alive:
                    children[children.index(child)] = _Child(work, workers, time_limit_s)
                elif waiting:
                    child.give(waiting.popleft())
                else:
                    child.end()
                    children.remove(child)
                if finished is not None:
                    yield finished
    finally:
        for child in children:
            child.end()


class _Child(Generic[Item, Result]):
    """The parent's side of one child process."""

    def __init__(self, work: Callable[[Item], Result], share: int, time_limit_s: float) -> None:
        self.pipe, theirs = Pipe()
        self.alive, self._given, self._time_limit_s = True, list[Item](), time_limit_s
        self._process = _Process(target=_serve, args=(theirs, work, share, time_limit_s), daemon=True)
        self._started, self.deadline = _now(), _now() + START_LIMIT_S
        with _interrupts_held():
            self._process.start()
        theirs.close()

    def give(self, item: Item) -> None:
        """Hand over the next item; its clock starts."""
        self._given.append(item)
        self._started, self.deadline = _now(), _now() + self._time_limit_s
        with contextlib.suppress(OSError):  # a child that just died is noticed at its end of the pipe
            self.pipe.send(item)

    def take(self) -> Finished[Item, Result] | None:
        """What the child has sent: nothing when it says that it is ready, the reason when it has died."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            return self._lost(Reason.DECODER_CRASH)
        self.deadline = math.inf
        return Finished(self._given.pop(), *message) if self._given else None

    def overdue(self) -> Finished[Item, Result]:
        """The refusal of an item that ran out of time; the child is killed."""
        return self._lost(Reason.TIMEOUT)

    def end(self) -> None:
        """End the process and the decoders that it has started, at once."""
        if self.alive and self._process.pid:
            with contextlib.suppress(ProcessLookupError):  # it has not come as far as to have a group of its own
                os.killpg(self._process.pid, signal.SIGKILL)
        self.alive = False
        self._process.kill()
        self._process.join()
        self.pipe.close()
        if self._process.pid:
            remove_left_by(self._process.pid)

    def _lost(self, reason: Reason) -> Finished[Item, Result]:
        self.end()
        code = self._process.exitcode
        if not self._given:
            raise UsageError(
                f"a reading process can't start ({_ending(code)}); free memory, or start fewer with --workers"
            )
        if reason is Reason.TIMEOUT:
            detail = f"reading took longer than {self._time_limit_s:g} s"
        else:
            detail = f"the reading process died ({_ending(code)})"
        return Finished(self._given.pop(), ScanError(reason, detail), _now() - self._started)


def _serve(pipe: Connection, work: Callable[[Item], Result], share: int, time_limit_s: float) -> None:
    """A child's life: say ready, then answer each item, until the parent ends it or dies."""
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _silence()
    limit = _limit_memory(share)
    with contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            item = pipe.recv()
            # The parent keeps the time; should it be gone, the system ends a child that hangs in C code.
            signal.alarm(math.ceil(time_limit_s) + 5)
            started = _now()
            result: Result | ScanError
            try:
                result = work(item)
            except ScanError as error:
                result = error
            except MemoryError:
                result = ScanError(Reason.TOO_LARGE, f"reading needs more than the {limit / 2**30:.0f} GiB it may take")
            except Exception as error:
                result = ScanError(Reason.FAULT, f"a fault of this software ({type(error).__name__}); please report it")
            pipe.send((result, _now() - started))
            signal.alarm(0)


def _limit_memory(share: int) -> int:
    """Cap this process's address space at its share of the machine's memory; the cap in bytes. No core dumps, ever."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = max(MEMORY_FLOOR_BYTES, physical // share)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    return limit


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back in processes that are started meanwhile, for good: they leave it to their parent."""
    resource_tracker.ensure_running()  # starting it later would let go
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


class _Process(SpawnProcess):
    """A process that does not import the caller's script: a user's script need not guard its calls.

    multiprocessing tells a new process to import whatever stands as `__main__`, which pages of the viewer exchange in
    other threads at any time. Everything that is sent here lies in modules.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:  # noqa: N802 - multiprocessing's name
        return _Start(process_obj)


class _Start(Popen):
    def _launch(self, process_obj: BaseProcess) -> None:
        """As in CPython's multiprocessing/popen_spawn_posix.py, but for `__main__`."""
        tracker = resource_tracker.getfd()
        how = {k: v for k, v in spawn.get_preparation_data(process_obj.name).items() if not k.startswith("init_main")}
        content = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(how, content)
            reduction.dump(process_obj, content)
        finally:
            set_spawning_popen(None)
        self.sentinel, child_end = os.pipe()
        child_start, start = os.pipe()
        self.finalizer = util.Finalize(self, util.close_fds, (self.sentinel, start))  # type: ignore[attr-defined]
        try:
            command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=child_start)
            inherited = [*self._fds, tracker, child_start, child_end]  # type: ignore[attr-defined]
            self.pid = util.spawnv_passfds(os.fsencode(spawn.get_executable()), command, inherited)
        finally:
            os.close(child_start)
            os.close(child_end)
        with open(start, "wb", closefd=False) as pipe:
            pipe.write(content.getbuffer())


def _end_with_parent() -> None:
    parent = parent_process()
    if parent:
        wait([parent.sentinel])
        remove_left_by(os.getpid())
        os.killpg(0, signal.SIGKILL)


def _silence() -> None:
    """Drop what libraries print: it may quote a patient's header."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}" + (", perhaps for lack of memory" if -code == signal.SIGKILL else "")
    return f"exit code {code}"


def _now() -> float:
    return time.monotonic()
