"""Checkpoints: every published layout loads strictly; what is not plain tensors is refused and never run."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import pointcut
from pointcut.errors import UnknownModel, WeightsMismatch, WeightsRefused
from pointcut.weights import specs
from pointcut.weights.keys import META_RULES, rename, to_native
from pointcut.weights.load import CONFIGS, locate, network_from
from pointcut.weights.read import read_tensors

PUBLISHED = [spec for spec in specs.MODELS if spec not in (specs.NANO, specs.MOBILE)]
"""What Meta published; test_mobile.py is about the other one."""


def on_meta(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda s: s.name)
def test_all_eleven_load_strictly(spec: specs.ModelSpec, manifest) -> None:
    shapes = manifest(spec.meta_file.rpartition(".")[0])
    net, name = network_from(on_meta(shapes), "manifest")
    assert name == spec.name
    assert len(net.state_dict()) == len(shapes)
    million = sum(p.numel() for p in net.parameters()) / 1e6
    assert million == pytest.approx(spec.parameters, rel=0.02)


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda s: s.name)
def test_renaming_is_a_bijection(spec: specs.ModelSpec, manifest) -> None:
    names = list(manifest(spec.meta_file.rpartition(".")[0]))
    ours = [rename(name, META_RULES) for name in names]
    with torch.device("meta"):
        expected = CONFIGS[spec.name].build().state_dict().keys()
    assert sorted(ours) == sorted(expected)
    assert len(set(ours)) == len(names)


def test_there_are_eleven_one_for_phones_and_the_built_in_one() -> None:
    assert len(PUBLISHED) == 11
    assert set(CONFIGS) == {spec.name for spec in specs.MODELS}


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("sam2.1-tiny", "sam2.1-tiny"),
        ("sam2.1_hiera_tiny", "sam2.1-tiny"),
        ("sam2.1_hiera_tiny.pt", "sam2.1-tiny"),
        ("facebook/sam2.1-hiera-base-plus", "sam2.1-base-plus"),
        ("facebook/sam2-hiera-large", "sam2-large"),
        ("vit_b", "sam-vit-b"),
        ("SAM-ViT-H", "sam-vit-h"),
        ("facebook/sam-vit-huge", "sam-vit-h"),
        ("nano", "nano"),
        ("mobile_sam.pt", "mobile-sam"),
        ("dhkim2810/MobileSAM", "mobile-sam"),
        ("vit_t", "mobile-sam"),
    ],
)
def test_spellings(spelling: str, name: str) -> None:
    found = specs.find(spelling)
    assert found is not None
    assert found.name == name


@pytest.fixture(scope="module")
def tiny(reproducible) -> dict[str, torch.Tensor]:
    return reproducible("sam2.1_hiera_tiny")


@pytest.mark.parametrize("kind", ["pt", "safetensors", "folder", "bare", "legacy"])
def test_kinds_of_files(kind: str, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    if kind == "pt":
        torch.save({"model": tiny}, path)
    elif kind == "bare":
        torch.save(OrderedDict(tiny), path)
    elif kind == "legacy":
        path = tmp_path / "old.pth"
        torch.save(tiny, path, _use_new_zipfile_serialization=False)
    else:
        path = tmp_path / "model.safetensors"
        save_file(tiny, path)
    model = pointcut.load(tmp_path if kind == "folder" else path, device="cpu")
    assert model.name == "sam2.1-tiny"
    weight = model.net.state_dict()["mask_decoder.iou_token.weight"]
    torch.testing.assert_close(weight, tiny["sam_mask_decoder.iou_token.weight"], rtol=0, atol=0)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    net = CONFIGS["nano"].build()
    save_file({k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}, tmp_path / "x.safetensors")
    model = pointcut.load(tmp_path / "x.safetensors", device="cpu")
    assert model.name == "nano"
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}


def test_wrong_tensors_are_named(tiny: dict[str, torch.Tensor]) -> None:
    less = dict(tiny)
    del less["sam_mask_decoder.iou_token.weight"]
    with pytest.raises(WeightsMismatch, match=r"1 tensors missing.*mask_decoder\.iou_token\.weight"):
        network_from(less, "file")
    with pytest.raises(WeightsMismatch, match=r"1 unexpected.*extra"):
        network_from(tiny | {"extra": torch.zeros(1)}, "file")
    odd = tiny | {"no_mem_embed": torch.zeros(1, 1, 8)}
    with pytest.raises(WeightsMismatch, match=r"no_mem_embed is \(1, 1, 8\) instead of \(1, 1, 256\)"):
        network_from(odd, "file")
    with pytest.raises(WeightsMismatch, match="no network of the SAM family"):
        network_from({"layer.weight": torch.zeros(2, 2)}, "file")


def test_image_only_files_load_without_memory(tiny: dict[str, torch.Tensor]) -> None:
    native = {k: v for k, v in to_native(tiny).items() if not k.startswith("memory.")}
    net, name = network_from(native, "file")
    assert name == "sam2.1-tiny"
    assert net.memory is None


class Canary:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_pickles_that_run_code_are_refused(tmp_path: Path, new_format: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "evil.pt"
    torch.save({"model": {"x": torch.zeros(1)}, "y": Canary(canary)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(WeightsRefused, match="needs more than tensors"):
        read_tensors(path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises((WeightsRefused, WeightsMismatch)):
        read_tensors(tmp_path / "evil.pkl")
    assert not canary.exists()


def test_programs_are_refused(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    torch.jit.save(torch.jit.script(module), tmp_path / "script.pt")
    torch.export.save(torch.export.export(module, (torch.zeros(1, 2),)), tmp_path / "program.pt2")
    with pytest.raises(WeightsRefused, match="TorchScript"):
        read_tensors(tmp_path / "script.pt")
    with pytest.raises(WeightsRefused, match="exported program"):
        read_tensors(tmp_path / "program.pt2")


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(WeightsRefused):
        read_tensors(tmp_path / "sparse.pt")


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"", ".pt"),
        (b"x" * 40, ".pt"),
        (b"PK\x03\x04" + b"\0" * 60, ".pt"),
        (b"\x80\x02" + b"\0" * 60, ".pth"),
        (struct.pack("<Q", 2**63) + b"{" + b" " * 60, ".safetensors"),
        (struct.pack("<Q", 8) + b'{"x":{}}' + b" " * 8, ".safetensors"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", ".safetensors"),
    ],
    ids=["empty", "noise", "zip", "pickle", "endless-header", "bad-header", "html"],
)
def test_broken_files(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises((WeightsMismatch, WeightsRefused), match="broken"):
        read_tensors(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_cut_off_files(share: float, suffix: str, tmp_path: Path) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    tensors = {f"t{i}": torch.randn(100) for i in range(9)}
    if suffix == ".pt":
        torch.save({"model": tensors}, whole)
    else:
        save_file(tensors, whole)
    data = whole.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(WeightsMismatch, match="again"):
        read_tensors(path)


def test_folders_without_or_with_too_many(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no weight file"):
        locate(tmp_path)
    for name in ("a", "b"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(UnknownModel, match="name one"):
        locate(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "sam2.1-tny",
        "nowhere/else.pt",
        "./x.pt",
        "../up/weights",
        "owner/model@../../up",
        "sam2.1-tiny@..",
        "a/b/c",
        "/no/such/file.pt",
        "",
    ],
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(UnknownModel, match="no model or file"):
        locate(name)


def test_near_names_are_suggested() -> None:
    with pytest.raises(UnknownModel, match=r"did you mean.*sam2\.1-tiny"):
        locate("sam2.1-tiney")


def test_built_in_weights_fit_the_package() -> None:
    assert specs.BUILT_IN.stat().st_size <= 15 * 1024 * 1024


def test_the_built_in_model_is_as_large_as_the_list_says() -> None:
    million = sum(x.numel() for x in pointcut.load("nano").net.state_dict().values()) / 1e6
    assert million == pytest.approx(specs.NANO.parameters, rel=0.02)
