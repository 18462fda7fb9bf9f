"""Mask arithmetic, run lengths and connected parts, against independent implementations."""

from __future__ import annotations

from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from pointcut import masks, pixels, rle
from pointcut.components import fill_small, label_components, without_small_parts
from pointcut.errors import InputError
from pointcut.images import Frame

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))


@given(MASKS)
def test_rle_is_cocos(mask: np.ndarray) -> None:
    ours = rle.encode(mask)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours["counts"] == theirs["counts"].decode()
    assert ours["size"] == theirs["size"]
    np.testing.assert_array_equal(rle.decode(ours), mask)


def test_rle_of_a_large_mask() -> None:
    y, x = np.mgrid[:1200, :1800]
    mask = ((x - 900) ** 2 + (y - 600) ** 2 < 250_000) & ((x // 7 + y // 5) % 3 > 0)
    assert rle.encode(mask)["counts"] == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(rle.decode(rle.encode(mask)), mask)


@pytest.mark.parametrize(
    "broken",
    [
        {"size": [2, 2], "counts": "5"},
        {"size": [2, 2], "counts": "\xff\xff"},
        {"size": [2, 2], "counts": "P"},
        {"size": [-1, 4], "counts": ""},
        {"size": [10**9, 10**9], "counts": "0"},
        {"size": [2, 2], "counts": "oooooooooooooooooooo1"},
        {"size": [2, 2], "counts": "9M4"},
    ],
    ids=["short", "characters", "cut", "negative-size", "huge", "huge-number", "negative-run"],
)
def test_broken_rle(broken: rle.Rle) -> None:
    with pytest.raises(InputError, match="RLE"):
        rle.decode(broken)


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=40))
def test_any_counts_decode_or_say_why(counts: str) -> None:
    try:
        mask = rle.decode({"size": [5, 7], "counts": counts})
    except InputError:
        return
    assert mask.shape == (5, 7)


@given(MASKS)
def test_components_are_opencvs(mask: np.ndarray) -> None:
    labels, areas = label_components(mask)
    count, theirs = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    assert len(areas) == count
    assert len(np.unique((labels * 1000 + theirs)[mask])) == count - 1  # the same parts, perhaps numbered otherwise
    np.testing.assert_array_equal(areas, np.bincount(labels.ravel(), minlength=1))


@given(MASKS, st.integers(0, 30))
@settings(max_examples=50)
def test_small_holes(mask: np.ndarray, largest: int) -> None:
    filled = fill_small(mask, largest)
    assert not (filled & mask).any()
    labels, areas = label_components(~mask)
    for i in range(1, len(areas)):
        assert filled[labels == i].all() == (areas[i] <= largest)


@given(MASKS, st.integers(0, 30), st.lists(st.integers(0, 12), min_size=4, max_size=4))
def test_small_parts_of_a_mask_are_those_of_its_picture(mask: np.ndarray, least: int, margins: list[int]) -> None:
    """Only what lies around a mask is looked at; what that leaves out is no hole, or as much of one as there is."""
    top, bottom, left, right = margins
    mask = np.pad(mask, ((top, bottom), (left, right)))
    clean = without_small_parts(mask, least)
    if not mask.any():
        assert clean is mask
        return
    filled = mask | fill_small(mask, least - 1)
    labels, areas = label_components(filled)
    stays = areas >= least
    stays[1 + areas[1:].argmax()] = True
    stays[0] = False
    np.testing.assert_array_equal(clean, stays[labels])
    assert (clean is mask) == (np.array_equal(filled, mask) and bool((areas[1:] >= least).all()))


@given(hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12))))
def test_areas_and_boxes(stack: np.ndarray) -> None:
    boxes = masks.boxes_xyxy(stack)
    for mask, area, (x0, y0, x1, y1) in zip(stack, masks.areas(stack), boxes.astype(int), strict=True):
        assert area == mask.sum()
        assert mask[y0:y1, x0:x1].sum() == area
        if area:
            assert mask[y0].any()
            assert mask[y1 - 1].any()
            assert mask[:, x0].any()
            assert mask[:, x1 - 1].any()


@given(MASKS)
def test_erosion_is_opencvs(mask: np.ndarray) -> None:
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    theirs = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    np.testing.assert_array_equal(masks.erode(mask), theirs.astype(bool))
    assert not (masks.border(mask) & ~mask).any()


@given(MASKS)
def test_iou_of_itself_and_its_opposite(mask: np.ndarray) -> None:
    assert masks.iou(mask, mask) == 1
    if mask.any():
        assert masks.iou(mask, ~mask) == 0


@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(1, 3),
)
def test_a_part_in_the_whole(part: np.ndarray, start: tuple[int, int], rest: tuple[int, int], factor: int) -> None:
    """Placed, and enlarged, as if it were drawn there."""
    drawn = part.repeat(factor, 0).repeat(factor, 1)
    whole = np.pad(drawn, list(zip(start, rest, strict=True)))
    size = whole.shape[0], whole.shape[1]
    placed = rle.placed(rle.encode(part), start[1], start[0], size, factor)
    assert placed == rle.encode(whole)
    (y, x), (height, width) = start, drawn.shape
    np.testing.assert_array_equal(rle.decode_part(placed, x, y, x + width, y + height), drawn)
    if factor == 1 and part.size > 1:
        with pytest.raises(InputError):
            rle.placed(rle.encode(part), start[1] + rest[1] + 1, start[0], size)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8))), st.data())
def test_sets_of_runs(masks_of_one: np.ndarray, data: st.DataObject) -> None:
    """Union, shared area and rectangles of run lengths are those of the masks."""
    encoded = [rle.encode(mask) for mask in masks_of_one]
    assert rle.union(encoded) == rle.encode(masks_of_one.any(axis=0))
    edges = [rle.edges_of(one) for one in encoded]
    first = edges[0]
    assert rle.shared_areas(first, edges).tolist() == (masks_of_one[0] & masks_of_one).sum(axis=(1, 2)).tolist()
    assert rle.shared_area(first, edges[-1]) == (masks_of_one[0] & masks_of_one[-1]).sum()
    height, width = masks_of_one.shape[1:]
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    inside = rle.shared_area(first, rle.rectangle(x0, y0, x1, y1, height))
    assert inside == masks_of_one[0, y0:y1, x0:x1].sum()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(9, 300), st.integers(9, 300)),
    fit=st.sampled_from(["squash", "pad"]),
    extent=st.integers(0, 64),
    together=st.sampled_from([1, 1000, pixels.STRETCHED_TOGETHER]),
)
def test_masks_are_drawn_as_if_everything_were(seed: int, size: tuple[int, int], fit: str, extent: int, together: int) -> None:
    """To the pixel, however many rows at a time."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.rand(1, 2, 64, 64, generator=generator) - 3
    y, x = torch.randint(0, 64, (2,), generator=generator).tolist()
    thing = logits[0, 1, y : y + extent, x : x + extent]
    thing += 6 * torch.rand(thing.shape, generator=generator)
    frame = Frame(*size, 256, fit)
    with patch.object(pixels, "STRETCHED_TOGETHER", together):
        masks = pixels.drawn(logits, frame)
    np.testing.assert_array_equal(masks, (pixels.to_picture(logits, frame) > 0).numpy())


@settings(deadline=None)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 60), st.integers(1, 60))),
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=3),
)
def test_cell_shares_are_adaptive_pooling(mask: np.ndarray, grids: list[tuple[int, int]]) -> None:
    x0, y0, x1, y1 = masks.boxes_xyxy(mask[None])[0].astype(int)
    got = masks.cell_shares(mask[y0:y1, x0:x1], x0, y0, mask.shape, grids)
    for shares, grid in zip(got, grids, strict=True):
        want = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None].float(), grid, mode="area")[0, 0]
        np.testing.assert_allclose(shares, want.numpy(), atol=1e-6)
