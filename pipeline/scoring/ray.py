"""Scoring on a Ray cluster: each actor of a pool runs the local engine on a few scans at a time."""

import json
import logging
import math
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.domain import Scan, UsageError
from pipeline.model.package import load_model
from pipeline.scoring.journal import Row, row_of
from pipeline.scoring.local import rows_here
from pipeline.scoring.predict import Predictor

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray starts: nothing is reported to anyone
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
try:
    import ray
    import ray.data
except ImportError:
    raise UsageError("--engine ray needs the package ray: pip install 'scanline[cluster]'") from None

CONNECT_S = 10.0
CHUNK = 32
"""Scans that an actor gets at once. Their rows come back together, so a lost actor's chunk is done again as a whole."""


def rows_on_cluster(
    scans: Sequence[Scan], model: Path, kinds: Sequence[str], out: Path, workers: int, time_limit_s: float, address: str
) -> Generator[Row, None, None]:
    """A row for each scan, as chunks come back. Every machine must see SCANS, MODEL and OUT under the same paths.

    Actors that die with their machine are started elsewhere and their chunks done again: the journal here has all
    rows that came back, each once.

    Args:
        workers: Processes that read scans, for each actor.
        address: Of the cluster, for example "10.0.0.1:6379" or "auto"; "" starts Ray on this machine alone.

    Raises:
        UsageError: If there is no cluster at the address.
    """
    if not scans:
        return
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with _cluster(address):
        cpus, gpus, actors = _share(ray.nodes(), workers, math.ceil(len(scans) / CHUNK))
        ray.data.DataContext.get_current().enable_progress_bars = False
        chunks = ray.data.from_items(list(scans), override_num_blocks=math.ceil(len(scans) / CHUNK))
        rows = chunks.map_batches(
            _Scorer,
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=cpus,
            num_gpus=gpus,
            fn_constructor_args=(model, tuple(kinds), out, workers, time_limit_s),
        )
        for batch in rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield from map(_row, batch["row"])


class _Scorer:
    """An actor: the model, loaded once, and the local engine."""

    def __init__(self, model: Path, kinds: Sequence[str], out: Path, workers: int, time_limit_s: float) -> None:
        self._predictor = Predictor(load_model(model), kinds, out)
        self._workers, self._time_limit_s = workers, time_limit_s

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        lines = []
        try:
            for row in rows_here(list(batch["item"]), self._predictor, self._workers, self._time_limit_s):
                lines.append(json.dumps(asdict(row)))
        except OSError as error:  # of a full disk, say: Ray would drop the rows and the number
            lines.append(json.dumps({"errno": error.errno}))
        except UsageError as error:  # OUT can't be written to from there
            lines.append(json.dumps({"told": str(error)}))
        return {"row": lines}


def _row(line: str) -> Row:
    """The row that an actor sent.

    Raises:
        OSError: If it sent one of those.
        UsageError: Likewise.
    """
    row = row_of(f"{line}\n".encode())
    if row is not None:
        return row
    sent = json.loads(line)
    if "told" in sent:
        raise UsageError(sent["told"])
    number = int(sent["errno"] or 0)
    raise OSError(number, os.strerror(number))


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Connected to a cluster; one that was started here ends with it."""
    if ray.is_initialized():
        yield
        return
    _check_answers(address)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            logging_level="error",
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"--ray-address {address}: Ray can't connect there ({type(error).__name__})") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try for minutes."""
    if address in ("", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--ray-address {address}: no cluster answers there ({type(error).__name__}); expected the host:port that "
            "`ray start --head` shows"
        ) from None


def _share(nodes: Sequence[dict[str, Any]], workers: int, chunks: int) -> tuple[float, float, int]:
    """CPUs and GPUs of an actor, and how many actors the machines hold; no more than there are chunks.

    An actor has a GPU to itself where there is one, and a CPU for each reading process and for the network; less
    where no machine has so many.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = 1.0 if any(machine.get("GPU", 0) >= 1 for machine in machines) else 0.0
    usable = [machine for machine in machines if machine.get("GPU", 0) >= gpus and machine.get("CPU", 0) >= 1]
    cpus = min(workers + 1.0, max((machine["CPU"] for machine in usable), default=1.0))
    room = [min(machine["CPU"] // cpus, machine["GPU"] if gpus else math.inf) for machine in usable]
    return cpus, gpus, max(1, min(chunks, int(sum(room))))
