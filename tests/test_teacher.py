"""The recipe of the built-in model: what a larger model says of a photograph is kept, read where it belongs, and taught."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from batches import Batches, Mixture, others_of
from composites import paste, random_view, tilted, warped
from interaction import Others, best_fits, most_like, things_besides
from label import layers_of
from label import main as label_photographs
from losses import Target, target_of
from photos import LAYERS, VOID, Photo, load_sets
from pointcut.weights import specs
from telling import TOLD, Teller, told_of

from conftest import PHOTOS


def test_what_a_teacher_says_of_a_place_is_read_where_the_place_went() -> None:
    rng = np.random.default_rng(5)
    y, x = (np.mgrid[0:150, 0:200].astype(np.float32) + 0.5) / 200
    image = np.dstack([x, y, 0 * x]) * 255
    told = np.zeros((TOLD, 64, 64), np.float16)
    told[:2] = (np.mgrid[0:64, 0:64][::-1] + 0.5) / 64
    photo = Photo(image.astype(np.uint8), np.ones((150, 200), np.uint8), told=told)
    for _ in range(10):
        scene = warped(tilted(random_view(photo, 320, rng, (0.5, 1.0)), rng), rng)
        hidden = np.zeros((320, 320), np.uint8)
        hidden[:125, :125] = 1
        scene = paste(scene, np.full((320, 320, 3), 255, np.uint8), hidden, 2, rng)
        known = told_of(scene)
        assert known.shape == (TOLD, 16, 16)
        assert not known[:, :6, :6].any()
        there = (known != 0).any(0) & (scene.labels[10::20, 10::20] == 1)
        assert there.sum() > 80
        off = known[:2] - scene.image[10::20, 10::20, :2].transpose(2, 0, 1) / 255
        assert np.abs(off[:, there]).mean() < 0.02  # shadows make the picture darker than it says
    assert not told_of(random_view(Photo(photo.image, photo.labels), 64, rng, (0.5, 1.0))).any()


def test_a_teachers_embedding_is_learnt_where_it_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    (tmp_path / "taught" / "told").mkdir(parents=True)
    values = rng.normal(3, 2, (TOLD, 64, 64)).astype(np.float16)
    np.save(tmp_path / "taught" / "told" / "a.npy", values)
    teller = Teller(8, tmp_path, 1.0)
    assert float(teller.centre.mean()) == pytest.approx(3, abs=0.1)
    assert float(teller.spread.mean()) == pytest.approx(2, abs=0.1)
    told = torch.from_numpy(values[None, :, :4, :4].astype(np.float32))
    embedding = torch.zeros(1, 8, 4, 4)
    torch.nn.init.zeros_(teller.project.bias)
    assert teller.loss(embedding, told).item() == pytest.approx(1, abs=0.1)
    told[:, :, 2:] = 0
    embedding[:, :, 2:] = 1e3
    assert teller.loss(embedding, told).item() == pytest.approx(1, abs=0.15), "what is not told does not count"
    assert teller.loss(embedding, 0 * told).item() == 0


def test_layers_hold_wholes_before_their_parts() -> None:
    whole, part, other, speck = (np.zeros((40, 40), bool) for _ in range(4))
    whole[:, :20] = part[5:15, 5:15] = other[5:30, 18:35] = speck[0, 0] = True
    everything = np.ones((40, 40), bool)
    first, second = layers_of([part, speck, whole, other, everything])
    assert (first == 1).sum() == 800
    assert (first == 2).sum() == 0, "a tenth of the other thing would be hidden"
    assert set(np.unique(second)) == {0, 1, 2}
    assert (second == 1).sum() == other.sum()
    assert (second == 2).sum() == part.sum()


def test_photographs_are_labelled_by_a_teacher_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shots, out = tmp_path / "shots" / "images", tmp_path / "data" / "taught"
    shots.mkdir(parents=True)
    for name in ("cat.jpg", "coffee.jpg"):
        shutil.copyfile(PHOTOS / name, shots / name)
    command = ["label.py", "--data", str(tmp_path), "--sets", "shots", "--teacher", str(specs.BUILT_IN), "--score", "0.6"]
    monkeypatch.setattr("sys.argv", [*command, "--out", str(out)])
    label_photographs()
    assert "2 of 2: coffee.jpg" in capsys.readouterr().out
    assert sorted(path.stem for path in (out / "told").iterdir()) == ["shots-cat", "shots-coffee"]
    photos = load_sets(tmp_path / "data")["taught"]
    assert photos
    assert all(photo.told is not None and photo.labels.any() for photo in photos)
    label_photographs()
    assert capsys.readouterr().out == ""

    shutil.move(tmp_path / "shots", tmp_path / "data" / "shots")
    sets = load_sets(tmp_path / "data")
    by_people, by_teacher = sets["shots"][0], sets["taught"][0]
    assert by_people.by_people
    assert not by_teacher.by_people
    assert by_people.layers is not None
    assert np.array_equal(by_people.layers, by_teacher.layers)
    assert np.array_equal(by_teacher.layers[..., 0], by_teacher.labels)


def scene_of_parts() -> Photo:
    """A head (2) on a body (1), in a teacher's second layer one person (1); people labelled the body alone."""
    first, second = np.zeros((80, 80), np.uint8), np.zeros((80, 80), np.uint8)
    first[30:75, 15:65], first[5:30, 25:50] = 1, 2
    second[first > 0] = 1
    layers = np.dstack([first, second] + [np.zeros_like(first)] * (LAYERS - 2))
    return Photo(np.repeat(first[..., None] * np.uint8(90), 3, axis=2), np.where(first == 1, first, 0), layers=layers)


def test_what_else_a_click_may_mean() -> None:
    scene = scene_of_parts()
    body, head, person = scene.layers[..., 0] == 1, scene.layers[..., 0] == 2, scene.layers[..., 1] == 1
    others = others_of(scene, body, (37.0, 50.0), 0.004)
    assert others.shape == (LAYERS, 16, 16)
    assert [i for i, other in enumerate(others) if other.any()] == [1], "the body itself is no other thing"
    assert np.array_equal(others[1] > 127, person[::5, ::5])
    on_the_head = others_of(scene, person, (37.0, 12.0), 0.004)
    assert [i for i, other in enumerate(on_the_head) if other.any()] == [0]
    assert np.array_equal(on_the_head[0] > 127, head[::5, ::5])
    assert not others_of(scene, person, (37.0, 12.0), 0.5).any(), "too small"
    assert not others_of(replace(scene, layers=None), body, (37.0, 50.0), 0.004).any()


def test_layers_go_where_the_picture_goes() -> None:
    rng, scene = np.random.default_rng(8), scene_of_parts()
    for _ in range(10):
        moved = warped(tilted(random_view(scene, 128, rng, (0.5, 1.0)), rng), rng)
        both = (moved.labels == 1) | (moved.layers[..., 0] == 1)
        agree = (moved.labels == 1) == (moved.layers[..., 0] == 1)
        assert agree[both].all()
        assert (moved.layers[moved.labels == VOID] == VOID).all()
    hidden = np.zeros((80, 80), np.uint8)
    hidden[:30] = 1
    covered = paste(scene, np.zeros((80, 80, 3), np.uint8), hidden, 7, rng)
    assert not covered.layers[:30].any()
    assert covered.layers[50, 37, 0] == 1


def test_a_candidate_may_be_another_thing_where_nobody_said_which_was_meant() -> None:
    shares = torch.zeros(3, 4, 4)
    target = Target(shares, torch.ones(3, 4, 4))
    person = torch.ones(2, 4, 4)
    others = Others(torch.tensor([0, 1]), Target(person, torch.ones(2, 4, 4)), torch.tensor([True, False]))
    ious = torch.tensor([[0.2, 0.3, 0.4, 0.5], [0.2, 0.3, 0.4, 0.5], [0.1, 0.1, 0.1, 0.1]])
    theirs = torch.tensor([[0.9, 0.1, 0.1, 0.8], [0.9, 0.9, 0.9, 0.9]])
    fits = best_fits(ious, theirs, others)
    assert torch.allclose(fits, torch.tensor([[0.9, 0.3, 0.4, 0.8], [0.2, 0.3, 0.4, 0.5], [0.1, 0.1, 0.1, 0.1]]))
    aim, fit = most_like(torch.tensor([1, 3, 2]), target, ious, others, theirs)
    assert torch.allclose(fit, torch.tensor([0.3, 0.9, 0.1]))
    assert [bool(share.any()) for share in aim.share] == [False, True, False]
    assert not shares.any(), "the objects themselves stay as they were"


def test_other_things_come_with_their_clicks(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("shots/images", "shots/masks", "taught/images", "taught/masks", "taught/told"):
        (data / folder).mkdir(parents=True)
    scene = scene_of_parts()
    for path, picture in {
        "shots/images/a.png": scene.image,
        "shots/masks/a.png": scene.labels,
        "taught/images/shots-a-0.jpg": scene.image,
        "taught/masks/shots-a-0.png": scene.layers[..., 0],
        "taught/images/shots-a-1.jpg": scene.image,
        "taught/masks/shots-a-1.png": scene.layers[..., 1],
    }.items():
        Image.fromarray(picture).save(data / path)
    np.save(data / "taught" / "told" / "shots-a.npy", np.ones((TOLD, 64, 64), np.float16))
    mixture = Mixture(shares=(("shots", 0.5), ("taught", 0.5)), composites=0.0)
    batch = next(iter(Batches(data, 64, 8, 3, 7, mixture)))
    assert set(batch.by_people.tolist()) == {True, False}
    besides = things_besides(batch, target_of(batch.masks.flatten(0, 1)))
    assert len(besides.of)
    assert torch.equal(besides.count, ~batch.by_people[besides.of // 3])
    mine = target_of(batch.masks.flatten(0, 1)).share[besides.of]
    assert ((besides.target.share - mine).abs().flatten(1).mean(1) > 0.02).all()
