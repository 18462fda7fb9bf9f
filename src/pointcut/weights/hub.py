"""Downloading weights from the Hugging Face Hub, checked before they are put in place.

A file that the Hub's own cache holds already is used where it lies. Others are downloaded by `huggingface_hub` to a temporary
folder, compared in size and SHA-256 with what the Hub says of them, and renamed to

    $HF_HOME/pointcut/<owner>--<name>/<revision>/<file>        (with <file>.sha256 beside it)

so that an interrupted download leaves nothing that looks complete. HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and
HF_TOKEN are honoured.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import OutputError, UnknownModel, WeightsMismatch, WeightsNotFound
from .specs import NANO, SUFFIXES, ModelSpec, find, unknown

DEFAULT_FILE = "model.safetensors"
"""What a repository is asked for that is not in the table."""

DAY = 24 * 3600

HUB_WORD = re.compile(r"\w[\w.-]*")
"""An owner's or a repository's name."""

REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
"""A branch, tag or commit; nothing that could lead out of the cache's folder."""


@dataclass(frozen=True)
class HubFile:
    """A file on the Hub."""

    repository: str
    file: str
    revision: str
    spec: ModelSpec | None = None

    @property
    def place(self) -> Path:
        """Where this project keeps it."""
        from huggingface_hub import constants

        folder = self.repository.replace("/", "--")
        revision = self.revision.replace("/", "--")
        return Path(constants.HF_HOME) / "pointcut" / folder / revision / self.file

    @property
    def url(self) -> str:
        """Where a person can fetch it."""
        if self.spec and self.spec.url and self.revision == "main":
            return self.spec.url
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repository, self.file, revision=self.revision)


def wanted(name: str) -> HubFile | None:
    """The file of a model's name or Hub id (`owner/name`, `owner/name@revision`); None for the built-in model.

    Raises UnknownModel.
    """
    base, _, revision = name.partition("@")
    if revision and not REVISION.fullmatch(revision):
        raise unknown(name)
    spec = find(base)
    if spec is NANO:
        return None
    if spec is not None:
        return HubFile(spec.hub_id, spec.hub_file, revision or "main", spec)
    owner, _, repository = base.partition("/")
    if not (HUB_WORD.fullmatch(owner) and HUB_WORD.fullmatch(repository)) or Path(base).suffix in SUFFIXES:
        raise unknown(name)
    return HubFile(base, DEFAULT_FILE, revision or "main")


def local_copy(file: HubFile) -> Path | None:
    """The file where it lies on this machine already, or None."""
    if file.place.is_file():
        return file.place
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(file.repository, file.file, revision=file.revision)
    return Path(cached) if isinstance(cached, str) else None


def fetch(file: HubFile) -> Path:
    """The file's path, downloaded if need be. Raises WeightsNotFound, UnknownModel, WeightsMismatch or OutputError."""
    return local_copy(file) or download(file)


def download(file: HubFile) -> Path:
    """Downloads a file, also if there is a copy already; progress goes to stderr."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise _absent(file, "HF_HUB_OFFLINE is set")
    try:
        file.place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(file.place.parent)
        incoming = tempfile.mkdtemp(dir=file.place.parent, prefix=".incoming-")
    except OSError as error:
        raise OutputError(f"{file.place.parent}: cannot be written ({error.strerror}); set HF_HOME to another folder") from None
    try:
        metadata = get_hf_file_metadata(hf_hub_url(file.repository, file.file, revision=file.revision))
        commit = metadata.commit_hash or file.revision
        got = Path(hf_hub_download(file.repository, file.file, revision=commit, local_dir=incoming))
        digest = check(got, metadata.size, metadata.etag)
        os.replace(got, file.place)
        file.place.with_name(f"{file.file}.sha256").write_text(f"{digest}  {file.file}\n")
    except GatedRepoError:
        raise _absent(file, "access must be granted on the Hub first; then set HF_TOKEN") from None
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise UnknownModel(f"the Hub has no {file.file} in {file.repository}@{file.revision} ({_first_line(error)})") from None
    except WeightsMismatch:
        raise
    except _download_errors() as error:
        raise _absent(file, f"the download failed: {_first_line(error)}") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return file.place


def _sweep(folder: Path) -> None:
    """Removes what downloads left that were killed more than a day ago; younger ones may still be running."""
    for left in folder.glob(".incoming-*"):
        with suppress(FileNotFoundError):  # another process sweeps too
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left, ignore_errors=True)


def _download_errors() -> tuple[type[Exception], ...]:
    """Disk, sockets, and the Hub library's HTTP client: httpx with its releases 1.x, httpx2 with 2.x."""
    clients = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return (OSError, *(cast("type[Exception]", client.HTTPError) for client in clients if client))


def check(path: Path, size: int | None, etag: str | None) -> str:
    """Compares a file with what the Hub says of it; returns its SHA-256. Raises WeightsMismatch.

    The Hub's etag of a large file is its SHA-256; of a small one that git keeps it is git's own SHA-1.
    """
    if size is not None and path.stat().st_size != size:
        raise WeightsMismatch(f"{path.name}: {path.stat().st_size} bytes came, {size} were expected; try again")
    digest = sha256(path)
    if etag and len(etag) == 64 and etag != digest:
        raise WeightsMismatch(f"{path.name}: its SHA-256 is {digest}, the Hub says {etag}; nothing was kept, try again")
    if etag and len(etag) == 40:
        with path.open("rb") as file:
            blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
            while block := file.read(1 << 20):
                blob.update(block)
        if blob.hexdigest() != etag:
            raise WeightsMismatch(f"{path.name}: its digest is not the Hub's; nothing was kept, try again")
    return digest


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expected_digest(path: Path) -> str | None:
    """The SHA-256 that was recorded for a file: beside it, or in the Hub cache's own naming."""
    beside = path.with_name(f"{path.name}.sha256")
    if beside.is_file():
        return beside.read_text().split()[0]
    target = Path(os.path.realpath(path)).name
    return target if len(target) == 64 else None


def _absent(file: HubFile, why: str) -> WeightsNotFound:
    name = file.spec.name if file.spec else file.repository
    return WeightsNotFound(
        f"the weights of {name} are not on this machine, and {why}. Fetch {file.url} and pass its path instead of the name, "
        f"or put it at {file.place}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
