"""Weight files to tensors. A checkpoint is data: whatever could run code, or is more than plain tensors, is refused."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UnknownModel, WeightsMismatch, WeightsRefused
from .specs import SUFFIXES

HOW_TO_CONVERT = "convert it to safetensors on a machine you can lose, or take the published file"


def weights_in(folder: Path) -> Path:
    """The one weight file of a folder. Raises UnknownModel where there is none, or more than one of a kind."""
    for suffix in SUFFIXES:
        files = sorted(folder.glob(f"*{suffix}"))
        if len(files) == 1:
            return files[0]
        if files:
            raise UnknownModel(f"{folder}: holds {len(files)} {suffix} files; name one, as in {files[0]}")
    raise UnknownModel(f"{folder}: holds no weight file ({', '.join(SUFFIXES)})")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a file's tensors by name; the kind is told by the content. Files are mapped, not copied, where they can be.

    Raises WeightsRefused (could run code, sparse or quantised tensors) or WeightsMismatch (broken, no tensors).
    """
    with path.open("rb") as file:
        head = file.read(16)
    if len(head) < 16:
        raise WeightsMismatch(f"{path}: {len(head)} bytes are no weight file; download it again")
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif head[:4] == b"PK\x03\x04":
        _refuse_programs(path)
        tensors = _read_pickle(path, mapped=True)
    elif head[:1] == b"\x80":
        tensors = _read_pickle(path, mapped=False)
    else:
        raise WeightsMismatch(f"{path}: neither safetensors nor a PyTorch checkpoint")
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise WeightsRefused(f"{path}: {name} is not a plain dense tensor; {HOW_TO_CONVERT}")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise WeightsMismatch(f"{path}: broken safetensors file ({error}); download it again") from None


def _refuse_programs(path: Path) -> None:
    """TorchScript and exported programs are zip files too, but hold code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise WeightsMismatch(f"{path}: broken or cut off ({error}); download it again") from None
    inner = [name.partition("/")[2] for name in names]
    if any(name.startswith("code/") or name == "constants.pkl" for name in inner):
        raise WeightsRefused(f"{path}: is a TorchScript program, which runs code; {HOW_TO_CONVERT}")
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) or "/models/" in f"/{name}" for name in names):
        raise WeightsRefused(f"{path}: is an exported program (.pt2), which can run code; {HOW_TO_CONVERT}")


def _read_pickle(path: Path, *, mapped: bool) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        if "truncated" in reason or "Ran out of input" in reason:
            raise WeightsMismatch(f"{path}: broken or cut off; download it again") from None
        raise WeightsRefused(f"{path}: needs more than tensors to be read ({reason}); {HOW_TO_CONVERT}") from None
    except (RuntimeError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise WeightsMismatch(f"{path}: broken or cut off ({reason}); download it again") from None
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise WeightsMismatch(f"{path}: holds a {type(content).__name__}, not a table of tensors")
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise WeightsMismatch(f"{path}: holds no tensors")
    return tensors
