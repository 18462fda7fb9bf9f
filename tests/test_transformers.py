"""The same numbers as `transformers`, on its own random weights, through files that its `save_pretrained` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import pointcut
from pointcut.nets.memory import Recollection
from pointcut.nets.positions import sine_grid
from pointcut.pixels import to_square
from pointcut.weights.keys import SAM1_TRANSFORMERS_RULES, SAM2_TRANSFORMERS_RULES, rename
from pointcut.weights.load import CONFIGS, network_from
from speed import randomise
from video import CLICK, clip, reference_steps, video_weights

from conftest import PHOTOS

TOLERANCE = 2e-3


def close(got: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    assert got.shape == expected.shape, what
    error = (got - expected).abs().max() / expected.std()
    assert error <= TOLERANCE, f"{what}: {error:.2e} of the spread"


POINTS = np.array([[300.0, 200.0], [100.0, 50.0]])


def encoded_by(theirs: torch.nn.Module, name: str, folder: Path) -> tuple[pointcut.EncodedImage, torch.Tensor, torch.Tensor]:
    """Their weights through their file into our model of that name: a picture encoded; it and the points as they take them."""
    theirs.save_pretrained(folder)
    model = pointcut.load(folder, device="cpu")
    assert model.name == name
    photo = model.encode(PHOTOS / "coffee.jpg")
    placed = torch.from_numpy(photo.frame.points_to_model(POINTS))[None, None]
    return photo, to_square(photo.image, photo.frame, photo.device), placed


@pytest.mark.slow
def test_sam2_image_model(tmp_path: Path) -> None:
    theirs = randomise(transformers.Sam2Model(transformers.Sam2Config()))
    photo, square, placed = encoded_by(theirs, "sam2.1-tiny", tmp_path)
    box = np.array([130.0, 60.0, 470.0, 350.0])
    placed_box = torch.from_numpy(photo.frame.boxes_to_model(box))[None, None]
    with torch.inference_mode():
        many = theirs(square, input_points=placed, input_labels=torch.tensor([[[1, 0]]]), multimask_output=True)
        single = theirs(square, input_boxes=placed_box, multimask_output=False)
    ours = photo.segment(POINTS, [1, 0], multimask=True)
    close(torch.from_numpy(ours.logits), many.pred_masks[0, 0].clamp(-32, 32), "three masks")
    np.testing.assert_allclose(ours.scores, many.iou_scores[0, 0], atol=1e-4)
    ours = photo.segment(boxes=box, multimask=False)
    close(torch.from_numpy(ours.logits), single.pred_masks[0, 0].clamp(-32, 32), "box")


@pytest.mark.slow
def test_sam1_model(tmp_path: Path) -> None:
    theirs = randomise(transformers.SamModel(transformers.SamConfig()))
    photo, square, placed = encoded_by(theirs, "sam-vit-b", tmp_path)
    with torch.inference_mode():
        embedding = theirs.get_image_embeddings(square)
        close(photo.features.embedding, embedding, "embedding")
        answer = theirs(
            image_embeddings=embedding, input_points=placed, input_labels=torch.tensor([[[1, 0]]]), multimask_output=True
        )
    ours = photo.segment(POINTS, [1, 0], multimask=True)
    close(torch.from_numpy(ours.logits), answer.pred_masks[0, 0], "three masks")
    np.testing.assert_allclose(ours.scores, answer.iou_scores[0, 0], atol=1e-3)


def test_sam2_video_layout_is_a_bijection() -> None:
    with torch.device("meta"):
        theirs = transformers.Sam2VideoModel(transformers.Sam2VideoConfig()).state_dict()
        ours = CONFIGS["sam2.1-tiny"].build().state_dict()
    shared = "shared_image_embedding.positional_embedding"
    names = [rename(n, SAM2_TRANSFORMERS_RULES) for n in theirs if n not in (shared, "prompt_encoder.point_embed.weight")]
    names += [f"prompt_encoder.point_embeddings.{i}.weight" for i in range(4)]
    assert sorted(names) == sorted(ours)
    net, name = network_from(theirs, "file")
    assert name == "sam2.1-tiny"
    assert net.memory is not None


def test_sam1_layout_is_a_bijection() -> None:
    with torch.device("meta"):
        theirs = transformers.SamModel(transformers.SamConfig()).state_dict()
        ours = CONFIGS["sam-vit-b"].build().state_dict()
    shared = "shared_image_embedding.positional_embedding"
    assert sorted(rename(n, SAM1_TRANSFORMERS_RULES) for n in theirs if n != shared) == sorted(ours)


def test_memory_parts() -> None:
    """Memory encoder and memory attention, which tracking will use, compute what transformers' do."""
    theirs = randomise(transformers.Sam2VideoModel(transformers.Sam2VideoConfig()))
    net, _ = network_from(theirs.state_dict(), "file")
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 256, 64, 64, generator=generator)
    mask = 20 * torch.rand(1, 1, 1024, 1024, generator=generator) - 10
    pointers = torch.randn(1, 8, 64, generator=generator)
    with torch.inference_mode():
        expected, expected_positions = theirs.memory_encoder(features, mask)
        memory = net.memory.memory_encoder(features, mask)
        positions = sine_grid(64, 64, 64, memory.device)[None]
        close(memory, expected, "memory")
        close(positions, expected_positions, "positions of the memory")

        cells = features.flatten(2).transpose(1, 2)  # (1, S, C)
        place = torch.randn(1, 4096, 256, generator=generator)
        bank = torch.cat([memory.flatten(2).transpose(1, 2), pointers], dim=1)
        bank_place = torch.cat([positions.flatten(2).transpose(1, 2), torch.zeros_like(pointers)], dim=1)
        want = theirs.memory_attention(
            current_vision_features=cells.transpose(0, 1),
            current_vision_position_embeddings=place.transpose(0, 1),
            memory=bank.transpose(0, 1),
            memory_posision_embeddings=bank_place.transpose(0, 1),
            num_object_pointer_tokens=8,
        )
        where = torch.cat([torch.arange(4096), torch.full((8,), 4096)])
        attention = net.memory.memory_attention
        got = attention(attention.begin(cells, place), Recollection(bank, bank_place, where))
    close(got, want.reshape(got.shape) if want.shape[0] == 1 else want.transpose(0, 1).reshape(got.shape), "memory attention")


@pytest.mark.slow
def test_tracking(tmp_path: Path) -> None:
    """One click, then two frames: `Sam2VideoModel` with the same random weights finds the same."""
    video_weights(tmp_path)
    pictures = list(clip(3))
    tracker = pointcut.load(tmp_path, device="cpu").track(pictures)
    tracker.prompt(0, 1, points=[CLICK])
    theirs = reference_steps(transformers.Sam2VideoModel.from_pretrained(tmp_path).eval(), pictures)
    for frame, (_, logits) in zip(tracker.run(), theirs, strict=True):
        assert frame.segments.object_scores[0] > 0
        close(torch.from_numpy(frame.segments.logits)[None], logits.clone(), f"frame {frame.index}")
