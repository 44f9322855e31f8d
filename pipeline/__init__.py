"""The Python API: `find_scans`, `read_volume`, `load_model`. Importing it loads no torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.model.package import load_model
    from pipeline.scans.find import find_scans, read_volume

__all__ = ["find_scans", "load_model", "read_volume"]
__version__ = "0.1.0"

_HOMES = {
    "find_scans": "pipeline.scans.find",
    "read_volume": "pipeline.scans.find",
    "load_model": "pipeline.model.package",
}


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
