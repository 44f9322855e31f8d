"""What each file is, told from its header: few files here, many in processes, where a bad one costs only itself.

Here nothing guards against a header that crashes or hangs what reads it; see docs/decisions/0015-headers-and-stacks.md.
"""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import current_process
from pathlib import Path
from typing import TypeAlias

from pipeline.domain import Scan, ScanError
from pipeline.scans.archives import within_reach
from pipeline.scans.boundary import refusing
from pipeline.scans.codecs import cores
from pipeline.scans.folders import relative_path
from pipeline.scans.imageless import NotAScan
from pipeline.scans.instances import Instance
from pipeline.scans.isolated import run_isolated
from pipeline.scans.series import scan_id_of
from pipeline.scans.sniff import kind_of

Seen: TypeAlias = Instance | tuple[Scan, ...] | ScanError | str
"""A DICOM instance, the scans of another file, why the file is refused, or why it is no scan."""

Look: TypeAlias = Callable[[Path, Path], Seen]
LookAtAll: TypeAlias = Callable[[Sequence[Path], Path, int | None], Iterable[tuple[Path, Seen]]]
"""Takes files, SCANS and the number of processes, as `look_at_all` does."""
Each: TypeAlias = Callable[[Sequence[Path]], list[Seen]]

ALONE_S = 0.3
"""No process is started in the first seconds..."""
WORTH_S, WAIT_S = 2.0, 8.0
"""...nor before so much computing is left, or so much waiting for a slow disk: starting them takes half a second."""
CHUNK = 64
"""Files that a process gets at once: passing them costs little beside reading them."""
TIME_LIMIT_S = 10.0
"""For a chunk; where it runs over, or its process dies, each of its files gets as much for itself."""


def look_at(path: Path, root: Path) -> Seen:
    """What one file (or member of an archive) is."""
    try:
        with refusing(), within_reach([path]) as (real,):
            kind = kind_of(real)
            if kind == "dicom":
                from pipeline.scans.dicom import read_instance

                instance = read_instance(real)
                return instance if real is path else replace(instance, path=path)
            return _nifti_scans(real, path, root) if kind == "nifti" else (_picture_scan(real, path, root),)
    except NotAScan as note:
        return str(note)
    except ScanError as error:
        return error


def _nifti_scans(real: Path, path: Path, root: Path) -> tuple[Scan, ...]:
    from pipeline.scans.nifti import read_nifti_header, volume_names

    opened = read_nifti_header(real)
    name, size = relative_path(path, root), str(real.stat().st_size)
    paths = tuple(sorted({path, path.with_name(opened.voxels_in.name)}))
    n_slices = opened.shape[2]
    spacing = abs(float(opened.header["pixdim"][3])) if n_slices > 1 else None
    return tuple(
        Scan(
            scan_id_of(name, size, group), path, paths, "nifti",
            group=group, n_slices=n_slices, slice_spacing_mm=spacing,
        )
        for group in volume_names(opened)
    )  # fmt: skip


def _picture_scan(real: Path, path: Path, root: Path) -> Scan:
    from pipeline.scans.image import check_picture

    check_picture(real)
    return Scan(scan_id_of(relative_path(path, root), str(real.stat().st_size)), path, (path,), "image", n_slices=1)


def look_at_all(
    paths: Sequence[Path], root: Path, workers: int | None = None, look: Look = look_at
) -> Generator[tuple[Path, Seen], None, None]:
    """What each file is, in any order; few files are looked at here, many in processes.

    Args:
        paths: Files.
        root: SCANS, which the names in scan ids are relative to.
        workers: Processes; by default one a processor, 0 for none.
        look: Looks at one file.

    Raises:
        UsageError: If a process can't be started.
    """
    if workers is None:
        workers = 0 if current_process().daemon else cores()  # a daemon may have no children
    each = partial(_look_at_each, root=root, look=look)
    done = yield from _alone(paths, each, workers > 0)
    chunks = [tuple(paths[at : at + CHUNK]) for at in range(done, len(paths), CHUNK)]
    lost: list[tuple[Path, ...]] = []
    for finished in run_isolated(chunks, each, workers, TIME_LIMIT_S):
        if isinstance(finished.result, ScanError):
            lost += [(path,) for path in finished.item]
        else:
            yield from zip(finished.item, finished.result, strict=True)
    for finished in run_isolated(lost, each, workers, TIME_LIMIT_S):
        seen = finished.result
        yield finished.item[0], seen if isinstance(seen, ScanError) else seen[0]


def _alone(paths: Sequence[Path], each: Each, may_stop: bool) -> Generator[tuple[Path, Seen], None, int]:
    """Files looked at in this process, until it is worth starting others; their number is returned."""
    started, computed = time.monotonic(), time.thread_time()
    for done, path in enumerate(paths):
        left = (len(paths) - done) / max(done, 1)
        if may_stop and _is_worth_it(time.monotonic() - started, time.thread_time() - computed, left):
            return done
        yield path, each((path,))[0]
    return len(paths)


def _is_worth_it(passed_s: float, computed_s: float, left: float) -> bool:
    """Whether to start processes, after some seconds of which some were computing, with `left` times as much to do."""
    return passed_s > ALONE_S and (computed_s * left > WORTH_S or passed_s * left > WAIT_S)


def _look_at_each(paths: Sequence[Path], root: Path, look: Look) -> list[Seen]:
    return [look(path, root) for path in paths]
