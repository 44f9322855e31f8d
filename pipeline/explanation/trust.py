"""Whether the maps of a model are to be trusted, as measured once and kept in its folder."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.files import read_json
from pipeline.model.integrity import add_report, identity, listing

REPORT = "explanation.json"
"""In the model folder."""
UNCHECKED = "Whether maps of this model, made this way, can be trusted was not measured: run explain with --check."


@dataclass(frozen=True)
class MapTrust:
    """What was measured of one way to make maps of one model.

    Attributes:
        trusted: None where no masks were at hand, so that nobody knows what the maps show.
        sentence: The same for the reader.
        method, layer: How the maps were made.
        model: Hash of what predicts.
        n_scans: Scans of the two checks that need no masks.
        randomised: Stage -> rank correlation of the maps with those after its weights, and all above, were shuffled;
            from the head down to the stem.
        noise: Rank correlation of the maps with those of slightly noisy inputs.
        hits, n_masks: Maps whose peak lies in the finding, of how many; None without masks.
        n_refused: Scans that were left out, for they or their masks can't be read.
    """

    trusted: bool | None
    sentence: str
    method: str
    layer: str
    model: str
    n_scans: int
    randomised: dict[str, float]
    noise: float
    hits: int | None = None
    n_masks: int | None = None
    n_refused: int = 0

    @property
    def hit_rate(self) -> float | None:
        """The pointing game: share of maps whose peak lies in the finding."""
        return self.hits / self.n_masks if self.hits is not None and self.n_masks else None


def map_trust(model_folder: Path) -> MapTrust | None:
    """What was measured of this very model; None where nothing was."""
    try:
        found = TypeAdapter(MapTrust).validate_python(read_json(model_folder / REPORT))
        return found if found.model == identity(listing(model_folder)) else None
    except (OSError, ValueError, ValidationError):
        return None


def verdict(trust: MapTrust | None, method: str, layer: str) -> tuple[bool | None, str]:
    """`trusted` and `sentence` for maps made one way: those of another way were not checked."""
    if trust is None or (trust.method, trust.layer) != (method, layer):
        return None, UNCHECKED
    return trust.trusted, trust.sentence


def map_note(trusted: bool | None, method: str, layer: str) -> str:
    """How a map was made and what it is worth, short enough for a file's header."""
    told = {True: "checked", False: "NOT TRUSTED", None: "not checked"}[trusted]
    return f"{method} {layer}; {told}; research use only"


def save_trust(model_folder: Path, trust: MapTrust) -> None:
    """Write explanation.json into the model folder; what predicts, and so the model's id, stays."""
    add_report(model_folder, REPORT, asdict(trust))
