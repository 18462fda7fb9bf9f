"""The table of models. Importing it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from ..errors import UnknownModel

BUILT_IN = Path(__file__).parent / "nano-14.safetensors"
"""The built-in model's weights, in the package."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""What weight files are called; in a folder they are looked for in this order."""

Precision = Literal["exact", "fast", "auto"]
"""How images are encoded: in the reference's float32, in a narrower type that is faster, or so where that is safe."""

FAST_ENOUGH = frozenset({"nano"})
"""Models whose masks in `fast` were measured (`pointcut bench`) to have a mean IoU of 0.99 or more with those in `exact`."""

META = "https://dl.fbaipublicfiles.com"


@dataclass(frozen=True)
class ModelSpec:
    """A published model: one row of the table."""

    name: str
    family: str
    """SAM, SAM 2, SAM 2.1 or MobileSAM."""
    hub_id: str
    """Repository on the Hugging Face Hub; empty for the built-in model."""
    hub_file: str
    """The file of that repository that is downloaded."""
    meta_file: str
    """The file's name as its authors publish it."""
    url: str
    """Where they publish it."""
    licence: str
    parameters: float
    """Millions."""
    registered: tuple[str, ...] = ()
    """Its name in the registry of `segment_anything`, or of `mobile_sam`."""


def _sam1(size: str, word: str, file: str, parameters: float) -> ModelSpec:
    url = f"{META}/segment_anything/{file}"
    hub = f"facebook/sam-vit-{word}"
    name, registered = f"sam-vit-{size}", (f"vit_{size}",)
    return ModelSpec(name, "SAM", hub, "model.safetensors", file, url, "Apache-2.0", parameters, registered)


def _sam2(version: str, size: str, day: str, parameters: float) -> ModelSpec:
    prefix = "sam2" if version == "2" else "sam2.1"
    file = f"{prefix}_hiera_{size.replace('-', '_')}.pt"
    url = f"{META}/segment_anything_2/{day}/{file}"
    hub = f"facebook/{prefix}-hiera-{size}"
    return ModelSpec(f"{prefix}-{size}", f"SAM {version}", hub, file, file, url, "Apache-2.0", parameters)


NANO = ModelSpec("nano", "SAM 2", "", "", BUILT_IN.name, "", "Apache-2.0", 7.3)
"""The built-in model: trained by this project, works offline."""

MOBILE = ModelSpec(
    "mobile-sam",
    "MobileSAM",
    "dhkim2810/MobileSAM",
    "mobile_sam.pt",
    "mobile_sam.pt",
    "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
    "Apache-2.0",
    9.8,
    ("vit_t",),
)
"""SAM with an image encoder that a phone can run, distilled from SAM's largest."""

MODELS: tuple[ModelSpec, ...] = (
    NANO,
    _sam2("2.1", "tiny", "092824", 38.9),
    _sam2("2.1", "small", "092824", 46.0),
    _sam2("2.1", "base-plus", "092824", 80.8),
    _sam2("2.1", "large", "092824", 224.4),
    _sam2("2", "tiny", "072824", 38.9),
    _sam2("2", "small", "072824", 46.0),
    _sam2("2", "base-plus", "072824", 80.8),
    _sam2("2", "large", "072824", 224.4),
    _sam1("b", "base", "sam_vit_b_01ec64.pth", 93.7),
    _sam1("l", "large", "sam_vit_l_0b3195.pth", 312.3),
    _sam1("h", "huge", "sam_vit_h_4b8939.pth", 641.1),
    MOBILE,
)


def find(name: str) -> ModelSpec | None:
    """The row of a name, as people spell it: `sam2.1-tiny`, `sam2.1_hiera_tiny`, `vit_b`, a Hub id, a file name."""
    wanted = _plain(name)
    for spec in MODELS:
        known = {spec.name, spec.hub_id, spec.hub_id.rpartition("/")[2], spec.meta_file, spec.meta_file.rpartition(".")[0]}
        if wanted in {_plain(k) for k in (*known, *spec.registered) if k}:
            return spec
    return None


def unknown(name: str) -> UnknownModel:
    """The error for a name that is in no row, with the nearest ones."""
    names = [spec.name for spec in MODELS]
    near = get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return UnknownModel(
        f"no model or file is called {name!r}; {hint}`pointcut models` lists them; a Hub id (owner/name) or a file works too"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace("-hiera", "")
