"""Finds the model that a user means: a folder or file of this machine, or an id of the Hugging Face hub.

**In**: `my-model/model`, `codegemma-2b.ckpt`, `google/codegemma-2b`, `google/codegemma-2b@revision`.
**Out**: a place that `formats/table.py` opens; of an id, in the hub's own cache, downloaded where anything is missing.
An interrupted download goes on where it was, in another process too, which the hub's own library does not do
(huggingface_hub 2.4); a file whose bytes are not those of its checksum is removed and named.
**Not**: accepting terms or making tokens for anybody.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

from codegemma.errors import InputError, MissingExtraError, UserError
from codegemma.model.formats.folder import COMPANIONS

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFETENSORS = (
    "config.json",
    "adapter_config.json",
    "lineage.json",
    "NOTICE",
    *COMPANIONS,
    "*.safetensors",
    "*.safetensors.index.json",
)
# Where a repository has no safetensors: Google's own PyTorch and Flax files.
_OTHERS = (*_SAFETENSORS, "*.ckpt", "pytorch_model*.bin*", "*/_METADATA", "*/manifest.ocdbt", "*/d/*", "*/ocdbt.*")

# Files from this size on are resumed; smaller ones are left to the hub's library.
_LARGE_BYTES = 10 * 2**20
_CHUNK_BYTES = 2**20
# A connection that broke after it brought something is opened again, so often in a row without a byte at most.
_MAX_EMPTY_TRIES = 3


class GatedModelError(UserError):
    """The hub hands the model out only to who accepted its terms."""

    exit_code = 3


def locate_model(text: str) -> Path:
    """Find the place that `text` names; what is not here and looks like an id is asked of the hub.

    >>> locate_model("my-model/model.safetensors/nowhere")
    PosixPath('my-model/model.safetensors/nowhere')

    Raises:
        InputError: the hub has no such model, cannot be reached, or gave a damaged file.
        GatedModelError: it is gated, and the token is missing or has no access.
        MissingExtraError: it looks like an id, and huggingface_hub is not installed.
    """
    place = Path(text)
    # my-model/model beside an existing my-model/ is a mistyped path.
    if place.exists() or (place.parent.exists() and place.parent != Path()) or not _HUB_ID.fullmatch(text):
        return place
    return download_model(text)


def download_model(text: str) -> Path:
    """Download `id` or `id@revision` into the hub's cache, checked and resumed; raises what `locate_model` raises."""
    matched = _HUB_ID.fullmatch(text)
    if matched is None:
        raise InputError(f"{text!r} is no id of the hub; wanted name/model or name/model@revision")
    name, revision = matched[1], matched[2]
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError(
            f"{text}: no such folder here; to fetch it from the Hugging Face hub, install codegemma[hub]"
        ) from error
    folder = _fetch(huggingface_hub, name, revision, _SAFETENSORS)
    if not any(folder.glob("*.safetensors")):
        folder = _fetch(huggingface_hub, name, revision, _OTHERS)
    _verify(folder)
    return folder


def _fetch(hub: Any, name: str, revision: str | None, patterns: Iterable[str]) -> Path:
    from huggingface_hub import errors

    try:
        _fetch_large(hub, name, revision, tuple(patterns))
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except errors.GatedRepoError as error:
        raise GatedModelError(
            f"{name} is gated: its owner hands it out on terms. Accept them at https://huggingface.co/{name} (for "
            "Gemma: ai.google.dev/gemma/terms), make a token that may read at https://huggingface.co/settings/tokens, "
            "and give it in HF_TOKEN or by: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{name} has no revision {revision!r}; name a branch, a tag or a commit") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{name}: no such folder here, and the hub has no model of that name that this token may see; look at the "
            "spelling, or at HF_TOKEN if the model is private"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"{name}: no such folder here, and the hub cannot be reached ({_shorten(error.__cause__ or error)}); look "
            "at the connection, HF_ENDPOINT and HF_HUB_OFFLINE, then run again: a download goes on where it was"
        ) from error
    # httpx's errors, a full disk, or the hub's "consistency check failed": each tells for itself.
    except (_name_transport_error(hub), OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} could not be downloaded ({_shorten(error)}); run the same command again: it goes on where it was"
        ) from error


def _fetch_large(hub: Any, name: str, revision: str | None, patterns: tuple[str, ...]) -> None:
    """Put the large files where the hub's library looks for them before it downloads: under their checksum."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        about = hub.HfApi().model_info(name, revision=revision, files_metadata=True)
    except _name_transport_error(hub):
        return  # The library tells what is wrong, or has all of it already.
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"
    for file in about.siblings or ():
        if (file.size or 0) < _LARGE_BYTES or not any(fnmatch(file.rfilename, pattern) for pattern in patterns):
            continue
        url = hub.hf_hub_url(name, file.rfilename, revision=about.sha)
        etag = hub.get_hf_file_metadata(url).etag
        if _SHA256.fullmatch(etag or "") and not (blobs / etag).exists():
            blobs.mkdir(parents=True, exist_ok=True)
            partial = blobs / f"{etag}.codegemma-partial"
            _resume(hub, url, partial, file.size)
            partial.replace(blobs / etag)


def _resume(hub: Any, url: str, partial: Path, size: int) -> None:
    """Append to a file until it has its size.

    Raises:
        OSError: the connection broke too often, or was refused.
    """
    headers = import_module("huggingface_hub.utils").build_hf_headers()
    session, broken = hub.get_session(), _name_transport_error(hub)
    tries, have = 0, partial.stat().st_size if partial.exists() else 0
    while have < size:
        try:
            _append(session, url, headers, partial, have)
            reason = "the answer was too short"
        except broken as error:
            reason = _shorten(error)
        before, have = have, partial.stat().st_size if partial.exists() else 0
        tries = 0 if have > before else tries + 1
        if tries >= _MAX_EMPTY_TRIES:
            raise OSError(reason)


def _name_transport_error(hub: Any) -> type[Exception]:
    """Find the error of every failed request in the HTTP library that the hub's is built on."""
    library = type(hub.get_session()).__module__.partition(".")[0]
    error: type[Exception] = import_module(library).HTTPError
    return error


def _append(session: Any, url: str, headers: dict[str, str], partial: Path, have: int) -> None:
    asked = headers | {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
    with session.stream("GET", url, headers=asked, follow_redirects=True) as answer:
        answer.raise_for_status()
        goes_on = answer.status_code == 206
        with partial.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_bytes(_CHUNK_BYTES):
                file.write(chunk)


def _verify(folder: Path) -> None:
    """Compare large files with their checksum, which the hub's cache has for a name; each file once."""
    for file in sorted(folder.rglob("*")):
        blob = file.resolve()
        if not (blob.is_file() and _SHA256.fullmatch(blob.name)):
            continue
        seen = _locate_seal(blob.name)
        state = f"{blob.stat().st_size} {blob.stat().st_mtime_ns}"
        if seen.is_file() and seen.read_text() == state:
            continue
        if _hash_file(blob) != blob.name:
            blob.unlink()
            file.unlink(missing_ok=True)
            raise InputError(
                f"{file.name} was damaged on its way here (its checksum is not the hub's) and was removed; "
                "run the same command again: it is downloaded anew"
            )
        try:
            seen.parent.mkdir(parents=True, exist_ok=True)
            seen.write_text(state)
        except OSError:
            return  # Where nothing can be remembered it is computed each time.


def _locate_seal(checksum: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "codegemma" / "checked" / checksum


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shorten(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
