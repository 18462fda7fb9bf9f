"""The recipe of the built-in model: pictures are drawn as meant, a step learns, a stopped run goes on."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import pointcut
from batches import Batches, Mixture, inner_click, noisy_box
from composites import Donors, blob, composite, cutout, in_the_light_of, random_view, warped
from interaction import interaction_loss, moves_from, to_look_at
from losses import Target, corrective_clicks, mask_losses, target_of, true_ious
from mix import mix
from photos import VOID, Photo, load_sets, objects_of, scenes_of, told_below
from pointcut.automatic.overlap import box_nms
from pointcut.nets.convnet import ConvNet, ConvNetConfig
from pointcut.nets.prompts import Prompts
from pointcut.nets.sam2 import NANO
from pointcut.weights import specs
from stamps import is_photographed
from stamps import main as copy_stamps
from things import LEAST, SIDE, TWICE, boxes_of, labelled
from train import GIVEN, Trainer, begin_with, resize


def test_sets(training_sets: Path) -> None:
    sets = load_sets(training_sets)
    assert {name: len(photos) for name, photos in sets.items()} == {"objects": 4, "textures": 1}
    assert objects_of(sets["objects"][0], 0.01) == [1, 2]
    with pytest.raises(SystemExit, match="no folder named 'images'"):
        load_sets(training_sets / "objects" / "masks")


def test_sets_may_be_links(training_sets: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(training_sets / "objects")
    (tmp_path / "taught" / "told").mkdir(parents=True)
    (tmp_path / "taught" / "told" / "a.npy").touch()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "taught")
    assert len(told_below(tmp_path)) == 1
    (tmp_path / "taught" / "told" / "a.npy").unlink()
    assert {name: len(photos) for name, photos in load_sets(tmp_path).items()} == {"linked": 4}


def test_views_and_composites(training_sets: Path) -> None:
    sets, rng = load_sets(training_sets), np.random.default_rng(1)
    donors = Donors(sets, (("objects", 1.0),))
    for _ in range(20):
        scene = random_view(sets["objects"][0], 64, rng, (0.2, 1.0))
        drawn = composite(scene, donors, sets["textures"], rng)
        assert drawn.image.shape == (64, 64, 3)
        assert drawn.image.dtype == np.uint8
        assert drawn.labels.shape == (64, 64)
        changed = (drawn.labels != scene.labels).any()
        assert not changed or (drawn.image != scene.image).any()
        assert set(np.unique(blob(64, rng))) <= {0, 1}


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    """A folder with a photographed cut-out, a drawn one, one too small, one of glass, and one without transparency."""
    rng, folder = np.random.default_rng(3), tmp_path / "stamps" / "animals"
    folder.mkdir(parents=True)
    disc = np.hypot(*(np.mgrid[0:120, 0:120] - 60)) < 50

    def save(name: str, colours: np.ndarray, alpha: np.ndarray) -> None:
        Image.fromarray(np.dstack([colours, alpha.astype(np.uint8)])).save(folder / f"{name}.png")

    noise = rng.integers(100, 200, (120, 120, 3), dtype=np.uint8) * disc[..., None]  # black around it, as stamps are
    save("newt", noise, disc * 255)
    save("letter", np.full((120, 120, 3), 90, np.uint8), disc * 255)
    save("small", noise[40:90, 40:90], disc[40:90, 40:90] * 255)
    save("smoke", noise, np.where(disc, 140, 0))
    Image.fromarray(noise).save(folder / "whole.png")
    return tmp_path / "stamps"


def test_stamps_that_are_photographs_of_one_thing(
    stamps: Path, training_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [path.stem for path in sorted(stamps.rglob("*.png")) if is_photographed(path)]
    assert kept == ["newt"]
    monkeypatch.setattr("sys.argv", ["stamps.py", str(stamps), "--out", str(tmp_path / "training_sets" / "stamps")])
    copy_stamps()
    assert "1 of 5 stamps are photographs" in capsys.readouterr().out
    sets = load_sets(tmp_path / "training_sets") | load_sets(training_sets)
    (newt,) = sets["stamps"]
    assert newt.cut_out
    assert objects_of(newt, 0.01) == [1]
    assert newt.image.min() >= 100, "its own colours go on around it, not the black of what is transparent"
    assert not any(photo is newt for photo in scenes_of(sets))
    assert len(scenes_of(sets)) == 5


def test_a_detector_s_sides_are_distances_from_the_middles_of_its_cells() -> None:
    sides = np.full((13 * 13, 4, 11), -50, np.float32)
    sides[:, 0, 2], sides[:, 1, 1], sides[:, 2, 3] = 50, 50, 50  # so many cells of 32 pixels
    sides[:, 3, 4:6] = 50  # one half each
    boxes = boxes_of(sides.reshape(len(sides), -1))
    np.testing.assert_allclose(boxes[13 * 6 + 5], [5.5 * 32 - 64, 6.5 * 32 - 32, 5.5 * 32 + 96, 6.5 * 32 + 4.5 * 32], atol=1e-3)
    assert boxes.min() == 0, "a box ends where the picture does"
    assert boxes.max() == SIDE


def test_things_are_labelled_where_nothing_is() -> None:
    def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        mask = np.zeros((100, 100), bool)
        mask[y0:y1, x0:x1] = True
        return mask

    before = np.zeros((100, 100), np.uint8)
    before[:50, :50], before[99] = 1, VOID
    labels = labelled(before, [box(60, 10, 95, 95), box(70, 20, 80, 30), box(0, 0, 45, 45), box(3, 90, 4, 91)])
    assert (labels[before > 0] == before[before > 0]).all(), "people's labels stay"
    assert (labels[box(70, 20, 80, 30)] == 2).all(), "what lies on a larger thing is one of its own"
    assert (labels[box(60, 10, 95, 95) & ~box(70, 20, 80, 30)] == 3).all()
    assert labels[90, 3] == 0, f"less than {LEAST:.1%} is nothing"
    boxes = np.array([(0, 0, 10, 10), (0, 0, 10, 8), (5, 0, 15, 10)])
    assert box_nms(boxes, np.array([0.9, 0.8, 0.7]), TWICE).tolist() == [0, 2]


def test_donors_are_drawn_by_their_set_s_share() -> None:
    rng, labels = np.random.default_rng(4), np.ones((20, 20), np.uint8)
    few, many, none = (Photo(np.full((20, 20, 3), i, np.uint8), labels * (i < 2)) for i in range(3))
    shares = (("few", 0.8), ("many", 0.2), ("none", 5.0), ("gone", 9.0))
    donors = Donors({"few": [few], "many": [many] * 50, "none": [none]}, shares)
    drawn = [donors.one(rng) for _ in range(300)]
    assert not any(photo is none for photo in drawn)
    assert 0.7 < sum(photo is few for photo in drawn) / 300 < 0.9
    assert Donors({"other": [few]}, (("gone", 1.0),)).one(rng) is few
    assert cutout(Donors({"none": [none]}, ()), 32, rng) is None


def test_bent_and_lit_otherwise() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros((64, 64), np.uint8)
    labels[20:44, 20:44] = 1
    scene = Photo(np.repeat(labels[..., None] * np.uint8(200), 3, axis=2), labels)
    for _ in range(10):
        bent = warped(scene, rng)
        assert set(np.unique(bent.labels)) <= {0, 1, VOID}
        assert (bent.labels != labels).any()
        inside = bent.labels == 1  # picture and labels are bent alike
        assert bent.image[inside].mean() > 150
        assert bent.image[bent.labels == 0].mean() < 50
    dark = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
    lit = in_the_light_of(np.full((8, 8, 3), 200, np.uint8), dark, rng)
    assert lit.dtype == np.uint8
    assert lit.mean() > dark.mean() + 20


def test_second_looks_before_clicks() -> None:
    rng = np.random.default_rng(0)
    drawn = [moves_from(rng) for _ in range(800)]
    runs = [moves for moves, quiet in drawn if not quiet]
    looked = [run for run in runs if run[:2] == ["first", "again"]]
    assert 0.2 < len(looked) / len(runs) < 0.3
    clicks = [run[2:] if run in looked else run[1:] for run in runs]
    assert all(set(some) <= {"click"} for some in clicks)
    assert {len(some) for some in clicks} == set(range(6))
    patient = [(moves, quiet) for moves, quiet in drawn if quiet]
    assert 0.1 < len(patient) / len(drawn) < 0.2
    assert all(moves == ["first", *["click"] * quiet] for moves, quiet in patient)
    assert {quiet for _, quiet in patient} == set(range(4, 11))


def test_a_late_click_teaches_all_of_the_network(training_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interaction.moves_from", lambda _: (["first", "click", "click"], 2))
    trainer = Trainer(arguments(training_sets, tmp_path, 0.1, "adamw"))
    resize(trainer.net, 64)
    batch = next(iter(trainer.batches(trainer.phases[0])))
    with torch.autocast("cpu", torch.bfloat16):  # which keeps narrowed weights, those without a way back, too
        loss, report = interaction_loss(trainer.net, batch, np.random.default_rng(0), trainer.teller)
    loss.backward()
    assert list(report)[-1].endswith("2click")
    learning = {name for name, parameter in trainer.net.named_parameters() if parameter.grad is not None}
    assert {"mask_decoder.conv_s0.weight", "mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"} <= learning
    assert "image_encoder.trunk.stem.conv.weight" in learning


def test_mostly_the_right_candidate_is_looked_at() -> None:
    ious = torch.tensor([[0.5, 0.1, 0.9, 0.85]]).repeat(300, 1)
    chosen = to_look_at(ious, np.random.default_rng(0))
    assert set(chosen.tolist()) == {1, 2, 3}
    assert (chosen == 2).float().mean() > 0.6


def test_batches_are_seeded_and_prompts_lie_on_their_objects(training_sets: Path) -> None:
    first, again = (next(iter(Batches(training_sets, 64, 2, 3, 7, Mixture()))) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.boxes, again.boxes)
    assert first.images.shape == (2, 3, 64, 64)
    assert first.masks.shape == (2, 3, 64, 64)
    for masks, clicks in zip(first.masks, first.clicks, strict=True):
        for mask, (x, y) in zip(masks, clicks.int().tolist(), strict=True):
            assert mask[y, x] == 1


def test_clicks_and_boxes_of_a_mask() -> None:
    mask, rng = np.zeros((50, 50), np.uint8), np.random.default_rng(0)
    mask[10:30, 5:45] = 1
    for _ in range(30):
        x, y = inner_click(mask, rng)
        assert mask[int(y), int(x)]
        x0, y0, x1, y1 = noisy_box(mask > 0, rng, 0.1)
        assert 0 <= x0 < x1 <= 50
        assert 0 <= y0 < y1 <= 50
        assert abs(x0 - 5) <= 8
        assert abs(y1 - 30) <= 4


def test_losses_order_masks_by_how_right_they_are() -> None:
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[0, 16:48, 16:48] = 1
    target = target_of(masks)
    right = torch.where(target.share > 0.5, 6.0, -6.0)
    logits = torch.stack([right, right.roll(4, 2), -right], dim=1)
    first, second, third = mask_losses(logits, target)[0].tolist()
    assert first < second < third
    assert true_ious(logits, target)[0, 0] == 1
    assert true_ious(logits, target)[0, 2] == 0


def test_corrective_clicks_fall_on_what_is_wrong() -> None:
    share = torch.zeros(2, 16, 16)
    share[:, 4:12, 4:12] = 1
    target = Target(share, torch.ones_like(share))
    logits = torch.full((2, 16, 16), -5.0)
    logits[0, 4:12, 4:7] = 5  # most of the object is missed
    logits[1, 4:12, 4:12] = 5
    logits[1, 0:3, 0:12] = 5  # something else is added
    xy, labels = corrective_clicks(logits, target, side=64)
    assert labels[:, 0].tolist() == [1, 0]
    for i, (x, y) in enumerate((xy[:, 0] / 4).int().tolist()):
        assert (share[i, y, x] > 0.5) != (logits[i, y, x] > 0)


def arguments(training_sets: Path, out: Path, minutes: float, optimiser: str) -> argparse.Namespace:
    return argparse.Namespace(
        data=training_sets,
        out=out,
        phase=[f"64:2:{minutes}"],
        objects=2,
        lr=1e-3,
        seed=1,
        device="cpu",
        workers=0,
        stop_after=float("inf"),
        start_from=None,
        optimiser=optimiser,
        told=0.0,
    )


def test_a_new_way_up_changes_nothing() -> None:
    trunk = ConvNet(ConvNetConfig(widths=(8, 8, 16, 16), stages=(1, 1, 1, 1), rises=(1, 2, 1))).eval()
    maps = trunk(torch.randn(1, 3, 64, 64), [torch.nn.Identity()] * 4)
    assert [tuple(x.shape[1:]) for x in maps] == [(8, 16, 16), (8, 8, 8), (16, 4, 4), (16, 2, 2)]
    for rise, coarse, fine in zip(trunk.rises, maps[1:], maps, strict=False):
        assert torch.equal(rise(coarse, fine), fine)
        torch.nn.init.ones_(rise.project.weight)
        assert not torch.equal(rise(coarse, fine), fine)


def test_a_run_begins_with_an_earlier_leg() -> None:
    weights, pixels = load_file(specs.BUILT_IN), torch.rand(1, 3, 64, 64)
    older = {name: value for name, value in weights.items() if not name.startswith(GIVEN)}
    plain, given = (
        replace(NANO, memory=None, fuser_depth=depth, decoder=replace(NANO.decoder, border_depth=depth)).build().eval()
        for depth in (0, 2)
    )
    click = Prompts(torch.tensor([[[30.0, 20.0]]]), torch.tensor([[1]]))
    masks = []
    for net in (plain, given):
        begin_with(net, older, new=GIVEN)
        resize(net, 64)
        with torch.no_grad():
            masks.append(net.predict(net.image_side(net.encode(pixels)), click, multimask=True).logits)
    assert torch.equal(plain.no_mem_embed, weights["no_mem_embed"].float())
    assert torch.equal(*masks)
    older.pop("no_mem_embed")
    with pytest.raises(SystemExit, match="not weights of this network: no_mem_embed"):
        begin_with(given, older, new=GIVEN)


def test_legs_are_mixed(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    count = torch.tensor(3)
    save_file({"weight": torch.zeros(2, 2).half(), "count": count}, first, {"model": "old"})
    given = {f"{GIVEN[0]}layers.0.{name}": torch.full((2,), 2.0).half() for name in ("gamma", "pwconv1.weight")}
    save_file({"weight": torch.full((2, 2), 2.0).half(), "count": count + 4, **given}, second, {"model": "nano"})
    mix(first, second, 0.25, tmp_path / "run" / "nano.safetensors")
    mixed = load_file(tmp_path / "run" / "nano.safetensors")
    assert torch.equal(mixed["weight"], torch.full((2, 2), 0.5).half())
    assert mixed["count"] == 7
    assert [mixed[name].tolist() for name in given] == [[0.5, 0.5], [2, 2]]
    with safe_open(tmp_path / "run" / "nano.safetensors", "pt") as file:
        assert file.metadata() == {"model": "nano"}
    save_file({"weight": torch.zeros(2, 3).half(), "count": count}, second)
    with pytest.raises(SystemExit, match="differ in 1 tensors, weight first"):
        mix(first, second, 0.5, tmp_path / "none.safetensors")
    with pytest.raises(SystemExit, match=r"from 0 .* to 1, got 3"):
        mix(first, first, 3, tmp_path / "none.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_run_learns_stops_and_goes_on(training_sets: Path, tmp_path: Path, optimiser: str) -> None:
    trainer = Trainer(arguments(training_sets, tmp_path, 0.1, optimiser))
    batch = next(trainer.batches(trainer.phases[0]).__iter__())
    resize(trainer.net, 64)

    def off() -> float:  # with boxes and clicks, looked at again and corrected, patiently and not
        return np.mean(
            [interaction_loss(trainer.net, batch, np.random.default_rng(n), trainer.teller)[0].item() for n in range(8)]
        )

    before = off()
    for _ in range(25):
        trainer.train_step(batch, trainer.phases[0])
    assert off() < before
    trainer.save()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 20

    resumed = Trainer(arguments(training_sets, tmp_path, 0.1, optimiser))
    assert resumed.step == 25
    for mine, theirs in zip(resumed.net.parameters(), trainer.net.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    resumed.run()
    assert resumed.step > 25
    assert not list(tmp_path.glob("*.tmp"))
    model = pointcut.load(tmp_path / "nano.safetensors", device="cpu")
    assert model.name == "nano"
    assert len(model.encode(np.zeros((30, 40, 3), np.uint8)).segment(points=[(3, 3)])) == 3


def test_photo_is_what_is_seen() -> None:
    photo = Photo(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255, np.uint8))
    assert objects_of(photo, 0.0) == []
