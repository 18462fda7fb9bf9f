"""Automatic masks: the arithmetic that replaces drawing, suppression, order among masks, the search, counting."""

from __future__ import annotations

import dataclasses
import threading
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import pointcut
from pointcut import AutomaticConfig, rle
from pointcut.arrange import apart, label_map, overlaps, parents, select, without_duplicates
from pointcut.automatic import columns, cores, overlap
from pointcut.automatic.columns import Place, areas_of, boxes_of, enlarged, run_lengths, toggles_of
from pointcut.automatic.config import crops_of, default_config, even_grid
from pointcut.automatic.overlap import box_nms
from pointcut.components import without_small_parts
from pointcut.errors import InputError
from pointcut.masks import boxes_xyxy
from pointcut.segments import Segments
from pointcut.tiles.prompted import black

QUICK = AutomaticConfig(6, pred_iou_thresh=0.4, stability_score_thresh=0.5, stability_score_offset=0.5)


def test_each_piece_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in threads with fewer cores each; the caller's and other threads' cores stay what they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        monkeypatch.setattr(cores, "MOST", 2)
        together = threading.Barrier(2)

        def work(source: int) -> tuple[int, int, str]:
            together.wait(timeout=60)  # two at a time, or it never gets on
            return source, torch.get_num_threads(), threading.current_thread().name

        found = list(cores.on_all_cores(work, range(8)))
        assert [source for source, _, _ in found] == list(range(8))
        assert {count for _, count, _ in found} == {2}
        assert threading.current_thread().name not in {name for _, _, name in found}
        assert torch.get_num_threads() == 4
        others: list[int] = []
        later = threading.Thread(target=lambda: others.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert others == [4]
        torch.set_num_threads(1)
        assert set(cores.on_all_cores(lambda _: threading.current_thread(), range(3))) == {threading.current_thread()}
        with pytest.raises(ZeroDivisionError):
            list(cores.on_all_cores(lambda source: 1 // source, range(2)))
    finally:
        torch.set_num_threads(before)


def rough_logits(seed: int, count: int, side: tuple[int, int]) -> torch.Tensor:
    """Blobs with noise, one mask that is nowhere, one that reaches every edge."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 4, 4, generator=generator)
    logits = 4 * F.interpolate(coarse, side, mode="bicubic")[:, 0] + 0.5 * torch.randn(count, *side, generator=generator)
    logits[0] = -3
    logits[-1, :2] = logits[-1, :, -2:] = 5
    return logits


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    side=st.tuples(st.integers(2, 24), st.integers(2, 24)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    threshold=st.sampled_from([-1.0, 0.0, 0.3, 1.0]),
)
def test_masks_are_measured_as_if_drawn(seed, side, size, threshold) -> None:
    """Enlarging and shrinking, areas, boxes and run lengths equal those of the drawn masks to the pixel."""
    logits = rough_logits(seed, 3, side)
    drawn = (F.interpolate(logits[None], size, mode="bilinear")[0] > threshold).numpy()
    masks = enlarged(logits, *size)
    toggles = toggles_of(masks, threshold, Place(0, 0, size[0], *size))
    np.testing.assert_array_equal(areas_of(masks, (threshold,))[0], drawn.sum(axis=(1, 2)))
    monkey = pytest.MonkeyPatch()
    for pays in (0, 10**9):  # every mask solved for, every mask with a border drawn
        monkey.setattr(columns, "DRAWN_FOR", pays)
        np.testing.assert_array_equal(areas_of(masks, (threshold,))[0], drawn.sum(axis=(1, 2)))
    monkey.undo()
    np.testing.assert_array_equal(toggles.areas(), drawn.sum(axis=(1, 2)))
    for row, mask in enumerate(drawn):
        lengths = run_lengths(toggles.of(row), mask.size)
        np.testing.assert_array_equal(rle.from_runs(lengths, *size), mask)
        np.testing.assert_array_equal(lengths, rle.runs(mask))
    exclusive = boxes_xyxy(drawn) - np.where(drawn.any(axis=(1, 2))[:, None], (0, 0, 1, 1), 0)
    np.testing.assert_array_equal(toggles.boxes(size[0]), exclusive)
    np.testing.assert_array_equal(boxes_of(masks, threshold, Place(0, 0, size[0], *size)), exclusive)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), corner=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_masks_of_a_crop_lie_in_the_whole(seed, corner) -> None:
    x0, y0 = corner
    logits = rough_logits(seed, 2, (8, 8))
    drawn = np.zeros((2, 50, 60), bool)
    drawn[:, y0 : y0 + 33, x0 : x0 + 41] = (F.interpolate(logits[None], (33, 41), mode="bilinear")[0] > 0).numpy()
    masks, place = enlarged(logits, 33, 41), Place(x0, y0, 33, 50, 60)
    toggles = toggles_of(masks, 0.0, place)
    np.testing.assert_array_equal(boxes_of(masks, 0.0, place), toggles.boxes(50))
    for row in range(2):
        np.testing.assert_array_equal(rle.from_runs(run_lengths(toggles.of(row), 3000), 50, 60), drawn[row])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_box_nms(seed: int, threshold: float) -> None:
    """What stays does not overlap more than allowed; what went overlaps something better that stayed."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 20, (12, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 15, (12, 2))], axis=1).astype(np.float32)
    scores = rng.random(12).round(1)
    kept = box_nms(boxes, scores, threshold)

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        side = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0)
        shared = side.prod()
        return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)

    assert (np.diff(scores[kept]) <= 0).all()
    for row in range(12):
        better = [k for k in kept if k != row and scores[k] >= scores[row]]
        overlapping = [k for k in better if iou(boxes[k], boxes[row]) > threshold + 1e-6]
        assert not overlapping if row in kept else [k for k in better if iou(boxes[k], boxes[row]) > threshold - 1e-6]


def test_box_nms_of_nothing() -> None:
    assert box_nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)


@given(seed=st.integers(0, 10_000), together=st.sampled_from([1, 3, 100]))
def test_asking_during_suppression_is_filtering_before_it(seed: int, together: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 20, (40, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 15, (40, 2))], axis=1).astype(np.float32)
    scores, good, asked = rng.random(40).round(1), rng.random(40) < 0.5, []

    def passes(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows)
        return good[rows]

    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(overlap, "ASKED_TOGETHER", together)
        kept = box_nms(boxes, scores, 0.5, passes)
    before = np.flatnonzero(good)
    np.testing.assert_array_equal(kept, before[box_nms(boxes[before], scores[before], 0.5)])
    assert len(set(asked)) == len(asked)  # once each
    if together == 1:  # and only what is not suppressed anyway
        assert set(np.array(asked)[good[asked]]) == set(kept)


def test_grids_and_crops() -> None:
    np.testing.assert_allclose(even_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    config = AutomaticConfig(8, crop_n_layers=2, crop_n_points_downscale_factor=2)
    assert [len(config.grid(layer)) for layer in range(3)] == [64, 16, 4]
    crops = crops_of(400, 600, config)
    assert [sum(c.layer == n for c in crops) for n in range(3)] == [1, 4, 16]
    covered = np.zeros((400, 600), int)
    for crop in crops[1:5]:
        covered[crop.y0 : crop.y1, crop.x0 : crop.x1] += 1
    assert covered.min() >= 1
    every = np.concatenate(dataclasses.replace(config, skip_covered=True).rounds(0))
    assert sorted(every) == list(range(64))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"points_per_side": None}, "exactly one"),
        ({"point_grids": (np.zeros((1, 2)),)}, "exactly one"),
        ({"points_per_side": 0}, "at least 1"),
        ({"points_per_batch": 0}, "at least 1"),
        ({"crop_n_layers": 9}, "0 to 4"),
        ({"stability_score_offset": -1.0}, "negative"),
        ({"points_per_side": None, "point_grids": (np.zeros((1, 2)),), "crop_n_layers": 1}, "each of 2 layers"),
        ({"points_per_side": None, "point_grids": (np.zeros((1, 2)),), "skip_covered": True}, "needs points_per_side"),
    ],
)
def test_wrong_choices(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutomaticConfig(**wrong)


def segments(masks: np.ndarray, scores: list[float]) -> Segments:
    count = len(masks)
    image = np.zeros((*masks.shape[1:], 3), np.uint8)
    stored = tuple(rle.encode(mask) for mask in masks)
    ones = np.ones(count, np.float32)
    return Segments(image, stored, np.array(scores, np.float32), ones, np.zeros((count, 4, 4), np.float32), np.arange(count))


def boxes_as_masks(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 50)) -> np.ndarray:
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_overlaps_are_those_of_the_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 9, 21)) < rng.uniform(0, 0.6)
    expected = (masks[:, None] & masks[None]).sum(axis=(2, 3))
    np.testing.assert_array_equal(overlaps(segments(masks, [0.5] * 4)), expected)


def test_large_masks_are_not_drawn_to_be_compared() -> None:
    """Hundreds of them would be gigabytes, and half a minute."""
    size, corners = (6000, 8000), [(50 * i, 40 * i, 50 * i + 400, 40 * i + 300) for i in range(100)]
    stored = [rle.from_edges(rle.rectangle(*box, size[0]), size) for box in corners]
    cut = Segments.read_back(black(size), stored, [{"score": 0.9, "stability": 0.9}] * 100, range(100))
    tracemalloc.start()
    shared = overlaps(cut)
    parts = [cut.part(row)[0] for row in range(100)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shared[0, :3].tolist() == [400 * 300, 350 * 260, 300 * 220]
    assert shared[0, 8] == 0  # they meet at a corner
    assert all(part.shape == (300, 400) and part.all() for part in parts)
    assert peak < size[0] * size[1], "less than one of them drawn"


def test_segments_of_run_lengths_are_those_of_masks() -> None:
    masks = boxes_as_masks((0, 0, 50, 40), (3, 4, 9, 8), (0, 0, 0, 0))
    packed = segments(masks, [0.9, 0.8, 0.7])
    plain = dataclasses.replace(packed, stored=masks)
    for one in (packed, plain):
        np.testing.assert_array_equal(one.masks, masks)
        np.testing.assert_array_equal(one.areas, [2000, 24, 0])
        np.testing.assert_array_equal(one.boxes_xyxy, [[0, 0, 50, 40], [3, 4, 9, 8], [0, 0, 0, 0]])
        np.testing.assert_array_equal(one[1:].masks, masks[1:])
        assert one.rle() == packed.rle()
        assert one.union.all()
    assert len(packed) == 3


def test_duplicates_choices_labels_and_tree() -> None:
    masks = boxes_as_masks((0, 0, 30, 30), (1, 0, 30, 30), (5, 5, 15, 15), (7, 7, 10, 10), (40, 30, 50, 40))
    cut = segments(masks, [0.7, 0.9, 0.8, 0.95, 0.6])
    assert without_duplicates(cut).areas.tolist() == [870, 100, 9, 100]
    assert without_duplicates(cut, inside=0.9).areas.tolist() == [900, 100]
    # The part is preferred to its wholes, which go; another part, off it, stays.
    assert apart(cut, np.array([0.5, 0.4, 0.9, 0.3, 0.1]), inside=0.7).tolist() == [2, 4]
    assert apart(cut, np.array([0.5, 0.6, 0.1, 0.3, 0.1]), inside=0.7).tolist() == [1, 4]
    assert parents(cut).tolist() == [-1, 0, 1, 2, -1]
    labels = label_map(cut)
    assert labels[8, 8] == 4
    assert labels[12, 12] == 3
    assert labels[20, 20] == 2
    assert labels[35, 45] == 5
    assert labels[35, 5] == 0
    assert len(select(cut, min_area=100, max_area=880)) == 3
    assert len(select(cut, touching_border=False)) == 2
    assert len(select(cut, touching_border=True)) == 3
    assert select(cut, min_score=0.9).scores.tolist() == pytest.approx([0.9, 0.95])
    assert len(select(cut, within=(4, 4, 16, 16))) == 2
    empty = select(cut, min_area=10_000)
    assert len(empty) == 0
    assert label_map(empty).max() == 0
    assert len(apart(empty, np.zeros(0), inside=0.7)) == 0
    assert without_duplicates(empty).masks.shape == (0, 40, 50)


def test_small_parts() -> None:
    mask = boxes_as_masks((5, 5, 25, 25), (30, 30, 32, 32), (10, 10, 12, 12))
    mask = (mask[0] | mask[1]) & ~mask[2]
    assert without_small_parts(mask, 4) is mask
    clean = without_small_parts(mask, 5)
    np.testing.assert_array_equal(clean, boxes_as_masks((5, 5, 25, 25))[0])
    np.testing.assert_array_equal(without_small_parts(mask, 10_000), np.ones_like(mask))
    nothing = np.zeros_like(mask)
    assert without_small_parts(nothing, 10) is nothing


@pytest.mark.parametrize("as_runs", [False, True])
def test_small_regions_of_many(as_runs: bool) -> None:
    specked = boxes_as_masks((5, 5, 25, 25), (30, 30, 32, 32))
    cut = Segments.of_masks(np.zeros((40, 50, 3), np.uint8), np.stack([specked.any(0), specked[1]]))
    if as_runs:
        cut = dataclasses.replace(cut, stored=tuple(cut.rle()))
    clean = pointcut.without_small_regions(cut, 5)
    assert isinstance(clean.stored, type(cut.stored))
    assert clean.areas.tolist() == [400, 4], "the largest island stays, however small"
    assert clean.boxes_xyxy[0].tolist() == [5, 5, 25, 25]
    assert cut.areas.tolist() == [404, 4]
    assert pointcut.without_small_regions(cut, 0) is cut
    assert len(pointcut.without_small_regions(cut[[]], 5)) == 0
    with pytest.raises(InputError, match="number of pixels"):
        pointcut.without_small_regions(cut, -1)


@pytest.fixture(scope="module")
def everything(cat: pointcut.EncodedImage) -> Segments:
    return cat.segment_everything(QUICK)


def test_the_search_is_the_session(cat: pointcut.EncodedImage, everything: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mask is a candidate of a click at its point, with the same score; the single mask is none of the search's."""
    decoder = cat.net.mask_decoder
    monkeypatch.setattr(decoder, "config", dataclasses.replace(decoder.config, single_among_three=False))
    assert len(everything) >= 3
    assert (np.diff(everything.scores) <= 0).all()
    for row in range(len(everything)):
        clicked = cat.segment(points=everything.prompts[row].points, multimask=True)
        same = np.abs(clicked.scores - everything.scores[row]).argmin()
        assert clicked.scores[same] == pytest.approx(everything.scores[row], abs=1e-4)
        assert (clicked.masks[same] != everything.mask(row)).mean() < 1e-4
        assert everything.scores[row] > QUICK.pred_iou_thresh


def test_search_choices(cat: pointcut.EncodedImage, everything: Segments) -> None:
    seen: list[tuple[int, int]] = []
    tidy = cat.segment_everything(dataclasses.replace(QUICK, min_mask_region_area=400), lambda *step: seen.append(step))
    assert seen[-1] == (36, 36)
    for row in range(len(tidy)):
        assert without_small_parts(tidy.mask(row), 400) is not None
        holes = without_small_parts(tidy.mask(row), 400)
        assert (holes == tidy.mask(row)).all()
    coarse = cat.segment_everything(dataclasses.replace(QUICK, skip_covered=True))
    assert 0 < len(coarse) <= len(everything) + 2
    assert len(cat.segment_everything(dataclasses.replace(QUICK, pred_iou_thresh=0.999))) == 0
    cropped = cat.segment_everything(dataclasses.replace(QUICK, points_per_side=2, crop_n_layers=1))
    assert cropped.stored == () or isinstance(cropped.stored[0], dict)

    class Stop(Exception):
        pass

    def stop(*_: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        cat.segment_everything(QUICK, stop)


def test_many_pictures(nano: pointcut.Segmenter, noise: np.ndarray) -> None:
    config = dataclasses.replace(QUICK, points_per_side=2)
    assert [cut.image.shape for cut in nano.segment_everything([noise, noise[:30]], config)] == [(60, 80, 3), (30, 80, 3)]


def test_counting_alike(nano: pointcut.Segmenter) -> None:
    """Discs on a plain ground, and squares of another colour: all are counted, or those like the one pointed at."""
    image = np.full((240, 320, 3), 210, np.uint8)
    y, x = np.mgrid[:240, :320]
    for cx, cy in ((50, 50), (160, 50), (270, 50), (50, 170)):
        image[(x - cx) ** 2 + (y - cy) ** 2 < 24**2] = (190, 30, 40)
    for cx, cy in ((160, 170), (270, 170)):
        image[(abs(x - cx) < 22) & (abs(y - cy) < 22)] = (20, 60, 200)
    photo = nano.encode(image)
    example = photo.segment(points=[(50, 50)]).best
    config = dataclasses.replace(default_config("nano"), points_per_side=10)
    everything = pointcut.count_objects(photo, config=config)
    ranked = pointcut.count_objects(photo, example, config=config)
    assert len(everything) >= 6
    assert ranked.similarity is not None
    last, next_one = np.sort(ranked.similarity)[::-1][3:5]
    alike = pointcut.count_objects(photo, example, config=config, similarity=float(last + next_one) / 2)
    assert len(alike) == 4
    assert all(image[int(y0 + y1) // 2, int(x0 + x1) // 2, 0] == 190 for x0, y0, x1, y1 in alike.cut.boxes_xyxy), "the discs"
    assert last > next_one + 0.01, "no square is nearly as like"
    assert alike.picture().size == (320, 240)
