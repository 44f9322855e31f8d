"""What is said beside a heat map, in the reader's language: how it was made, and whether to trust it. No Streamlit."""

from dataclasses import dataclass

from app.language import Words
from pipeline.explanation.gradcam import way_of
from pipeline.explanation.sanity import LEAST_HITS, LEAST_STEADY, MOST_ALIKE
from pipeline.explanation.trust import MapTrust, map_trust, verdict
from pipeline.model.package import Model

VERDICTS = {True: "trusted", False: "untrusted", None: "unmeasured"}
"""`MapTrust.trusted` -> key of the verdict's sentence."""


@dataclass(frozen=True, slots=True)
class MapWords:
    """What is said of a model's maps.

    Attributes:
        made: The method and the layer that they are drawn from.
        verdict: Whether to trust them.
        measured: What was found of that; empty where nothing was.
        trusted: Whether they passed their checks; else the verdict is a warning.
    """

    made: str
    verdict: str
    measured: str
    trusted: bool


def map_words(words: Words, model: Model) -> MapWords:
    """How the maps of this model are made, and what is known of their worth."""
    way, trust = way_of(model), map_trust(model.folder)
    method = words(f"map.{way.method}")
    made = words("map.made", way=words("map.layer", method=method, layer=way.layer) if way.layer else method)
    trusted, _ = verdict(trust, way.method, way.layer)
    if trust is None or (trust.method, trust.layer) != (way.method, way.layer):
        return MapWords(made, words("map.unchecked"), "", trusted=False)
    return MapWords(made, words(f"map.{VERDICTS[trusted]}"), " ".join(_measured(words, trust)), trusted is True)


def _measured(words: Words, trust: MapTrust) -> list[str]:
    """A sentence for each check, with what is demanded."""
    last = list(trust.randomised.values())[-1]
    found = [
        words("map.shuffled", found=f"{last:.2f}", limit=MOST_ALIKE),
        words("map.noise", found=f"{trust.noise:.2f}", limit=LEAST_STEADY),
    ]
    if trust.hit_rate is None:
        return found
    hits = words(
        "map.hits",
        hits=trust.hits,
        scans=words.count("count.scans", trust.n_masks or 0),
        limit=f"{100 * LEAST_HITS:.0f}",
    )
    return [hits, *found]
