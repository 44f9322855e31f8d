"""Files of a model hub: found, downloaded once, checked against the hash that the hub declares."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import sha256_of
from pipeline.model.tensor_files import WeightsError

USUAL_FILES = ("model.safetensors", "pytorch_model.bin")
"""What repositories call their weights, best first."""
TIMEOUT_S = 5.0
"""Longest wait for the hub's first answer; a machine without network gets its error within 10 s."""
CACHE: Path | None = None
"""Folder for downloaded weights; by default that of the hub's own client."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository; without `file` its only or usual one, without `revision` the newest."""

    repository: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        """As the config names it."""
        revision, file = (f"@{self.revision}" if self.revision else ""), (f":{self.file}" if self.file else "")
        return f"{self.repository}{revision}{file}"


def hub_file(wanted: HubFile) -> Path:
    """The local copy of a hub's file, downloaded unless it is there already.

    Raises:
        WeightsError: If the hub can't be reached or has no such file, or the content is not what it declares.
    """
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    for name in [wanted.file] if wanted.file else USUAL_FILES:
        cached = try_to_load_from_cache(wanted.repository, name, cache_dir=CACHE, revision=wanted.revision)
        if isinstance(cached, str):
            return _checked(Path(cached), None)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    advice = (
        f"Download {wanted.file or USUAL_FILES[0]} of {wanted.repository} where there is a network and give its path "
        "as model.weights, or use weights: none"
    )
    try:
        # The download's own client tries for most of a minute without a network; one short question spares that.
        found = HfApi(endpoint=endpoint).model_info(
            wanted.repository, revision=wanted.revision, timeout=TIMEOUT_S, files_metadata=True
        )
        siblings = {s.rfilename: s.lfs.sha256 if s.lfs else None for s in found.siblings or ()}
        name = wanted.file or _choose(wanted, list(siblings))
        path = hf_hub_download(
            wanted.repository, name, revision=wanted.revision, endpoint=endpoint, etag_timeout=TIMEOUT_S,
            cache_dir=CACHE,
        )  # fmt: skip
    except WeightsError:
        raise
    except HfHubHTTPError as error:
        raise WeightsError("missing", f"the hub answered {error.response.status_code} for {wanted}. {advice}") from None
    except Exception:  # no network: the client's own errors, of another type in each of its versions
        raise WeightsError(
            "missing", f"{wanted} is no local file, and the hub can't be reached or broke off. {advice}"
        ) from None
    return _checked(Path(path), siblings.get(name))


def _choose(wanted: HubFile, names: list[str]) -> str:
    """The repository's usual file of weights, or its only one."""
    found = [name for name in USUAL_FILES if name in names]
    found = found or [name for name in names if name.endswith((".safetensors", ".pth", ".pt", ".bin", ".ckpt"))]
    if len(found) == 1 or found[:1] == [USUAL_FILES[0]]:
        return found[0]
    listed = ", ".join(found[:8]) or "none"
    raise WeightsError("missing", f"{wanted.repository} holds these files of weights: {listed}. Name one of them, for "
                       f"example {wanted.repository}:{found[0] if found else 'FILE'}")  # fmt: skip


def _checked(path: Path, declared: str | None) -> Path:
    """The path, if its content has the SHA-256 that the hub declared; else nothing of it is kept."""
    content = path.resolve()  # the cache names content by the hash that came with it
    expected = declared or (content.name if re.fullmatch("[0-9a-f]{64}", content.name) else None)
    if expected and sha256_of(content) != expected:
        path.unlink()
        content.unlink(missing_ok=True)
        raise WeightsError("checksum", f"{path.name} is not what the hub declares (SHA-256 {expected[:8]}); try again")
    return path
