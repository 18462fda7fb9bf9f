"""Searching by meaning: image-text models in transformers' layout, with random weights, against transformers itself."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import pointcut
from pointcut.cli.main import app
from pointcut.embed import Embedder, source_of
from pointcut.errors import InputError, WeightsMismatch, WeightsNotFound
from pointcut.likeness import CloseUps

from conftest import PHOTOS

VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "a", "red", "cup", "cat", "rocket", "the"]


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=16, **special)


def small(**more: int) -> dict[str, int]:
    return {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, **more}


def clip() -> tuple[Any, Any]:
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    text = small(vocab_size=len(VOCABULARY), max_position_embeddings=16, **ids)
    config = CLIPConfig(text_config=text, vision_config=small(image_size=32, patch_size=8), projection_dim=12)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return CLIPModel(config), CLIPProcessor(images, tokenizer())


def siglip() -> tuple[Any, Any]:
    from transformers import SiglipConfig, SiglipModel, SiglipProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    text = small(vocab_size=len(VOCABULARY), max_position_embeddings=16)
    config = SiglipConfig(text_config=text, vision_config=small(image_size=32, patch_size=8))
    return SiglipModel(config), SiglipProcessor(SiglipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each, as `save_pretrained` writes it."""
    folders = {}
    for name, build in (("clip", clip), ("siglip", siglip)):
        torch.manual_seed(0)
        model, processor = build()
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        processor.save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_vectors_are_those_of_transformers(models: dict[str, Path], name: str) -> None:
    """Cosines are what the model itself makes its logits of."""
    from transformers import AutoModel, AutoProcessor

    embedder = Embedder.open(str(models[name]))
    pictures = [Image.open(PHOTOS / "cat.jpg"), Image.open(PHOTOS / "rocket.jpg")]
    texts = ["a red cup", "the cat", "rocket"]
    ours = embedder.words(texts) @ embedder.pictures(pictures).T
    model, processor = AutoModel.from_pretrained(models[name]).eval(), AutoProcessor.from_pretrained(models[name])
    inputs = processor(text=texts, images=pictures, return_tensors="pt", padding="max_length" if name == "siglip" else True)
    with torch.inference_mode():
        logits = model(**inputs).logits_per_text
    bias = model.logit_bias if name == "siglip" else 0
    np.testing.assert_allclose(ours, ((logits - bias) / model.logit_scale.exp()).detach(), atol=1e-5)
    assert source_of(embedder.name) == str(models[name])
    assert source_of("nano/12/512") is None


def test_what_is_no_such_model(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="--words-model"):
        Embedder.open(str(tmp_path))
    bert = tmp_path / "bert"
    shutil.copytree(models["clip"], bert)
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(vocab_size=10, **small())).save_pretrained(bert)
    with pytest.raises(WeightsMismatch, match="is a bert"):
        Embedder.open(str(bert))


def test_close_ups(models: dict[str, Path], cat: pointcut.EncodedImage) -> None:
    """A segment's vector is that of what is cut out, with what is around it dimmed."""
    looks = CloseUps(Embedder.open(str(models["clip"])))
    cut = cat.segment(boxes=[(30, 0, 370, 299), (150, 100, 250, 200)]).best
    found = looks.vectors(cat, cut)
    assert found.shape == (2, 12)
    assert looks.width(cat) == 12
    assert looks.vectors(cat, cut[[]]).shape == (0, 12)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert abs(found[0] - found[1]).max() > 1e-3


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["index", *map(str, arguments)])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


def test_search_by_meaning(models: dict[str, Path], tmp_path: Path) -> None:
    boxes = [
        {"image": "cat.jpg", "boxes": [[30, 0, 370, 299]], "labels": ["cat"]},
        {"image": "rocket.jpg", "boxes": [[300, 60, 345, 365]], "labels": ["rocket"]},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    index = ["--index", tmp_path / "index"]
    add = ["add", PHOTOS, "--boxes", tmp_path / "boxes.json", *index, "--json"]
    told = json.loads(call(*add, "--words-model", models["clip"]).stdout)
    assert told["index"]["dimension"] == 12
    assert told["index"]["encoder"].startswith("words:")
    assert json.loads(call(*add).stdout)["known"] == 2, "the index knows whose vectors it holds"

    hits = json.loads(call("search", "--text", "a red cup", *index, "--json", "--out", tmp_path / "found.png").stdout)
    embedder = Embedder.open(str(models["clip"]))
    assert Image.open(tmp_path / "found.png").width > 100
    from pointcut.index import open_store

    store = open_store(tmp_path / "index")
    cosines = {hit["id"]: float(store.vector_of(hit["id"]) @ embedder.words(["a red cup"])[0]) for hit in hits}
    assert [hit["id"] for hit in hits] == sorted(cosines, key=lambda one: -cosines[one])
    for hit in hits:
        assert hit["similarity"] == pytest.approx(cosines[hit["id"]], abs=1e-4)
    like = json.loads(call("search", PHOTOS / "cat.jpg", "--box", "30,0,370,299", *index, "--json").stdout)
    assert like[0]["label"] == "cat"
    assert like[0]["similarity"] == pytest.approx(1, abs=1e-4)
    call("search", "--text", "x", "--id", "y", *index, code=2)

    # other weights under the same name, and an index without words
    torch.manual_seed(1)
    clip()[0].save_pretrained(models["clip"])
    result = call("search", "--text", "a red cup", *index, code=1)
    assert isinstance(result.exception, InputError)
    assert "cannot be compared" in str(result.exception)
    plain = ["--index", tmp_path / "plain"]
    call("add", PHOTOS, "--boxes", tmp_path / "boxes.json", *plain)
    result = call("search", "--text", "a red cup", *plain, code=1)
    assert "knows no words" in str(result.exception)
    result = call("add", PHOTOS, "--boxes", tmp_path / "boxes.json", *plain, "--words-model", models["siglip"], code=1)
    assert "cannot be compared" in str(result.exception)
    assert io.StringIO(call("list", *plain).stdout).readline()
