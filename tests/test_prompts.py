"""What people point at: every mistake has its own sentence."""

from __future__ import annotations

import numpy as np
import pytest

from pointcut.errors import InvalidPrompt
from pointcut.prompts import parse_prompts

SIZE = (60, 80)


def parse(points=None, labels=None, boxes=None, mask=None):
    return parse_prompts(points, labels, boxes, mask, SIZE)


def test_one_object() -> None:
    (prompt,) = parse(points=[(5, 6), (7, 8)], labels=[1, 0], boxes=(1, 2, 30, 40))
    assert prompt.points.tolist() == [[5, 6], [7, 8]]
    assert prompt.labels.tolist() == [1, 0]
    assert prompt.box.tolist() == [1, 2, 30, 40]
    assert not prompt.ambiguous
    assert parse(points=[(5, 6)])[0].ambiguous
    assert parse(points=np.array([[5, 6]]))[0].labels.tolist() == [1]
    for click in ((5, 6), [5, 6], np.array([5, 6])):
        assert [prompt.points.tolist() for prompt in parse(points=click)] == [[[5, 6]]]
        for label in (0, [0], np.int64(0), np.array(0)):
            assert parse(points=click, labels=label)[0].labels.tolist() == [0]


def test_many_objects_of_uneven_length() -> None:
    prompts = parse(points=[[(1, 2)], [(3, 4), (5, 6), (7, 8)]], labels=[[1], [1, 0, 1]])
    assert [len(p.points) for p in prompts] == [1, 3]
    assert prompts[1].labels.tolist() == [1, 0, 1]
    assert len(parse(boxes=[(1, 2, 3, 4), (5, 6, 7, 8)])) == 2
    assert len(parse(points=np.ones((3, 2, 2)))) == 3


def test_masks() -> None:
    rough = np.zeros(SIZE, np.uint8)
    rough[3, 4] = 255
    assert parse(mask=rough)[0].mask.dtype == bool
    assert parse(mask=np.zeros((16, 16), np.float32))[0].mask.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to segment"),
        ({"points": []}, "empty"),
        ({"points": (5, 6, 7)}, "pairs"),
        ({"points": ("5", None)}, "numbers"),
        ({"points": [(5, 6, 7)]}, "pairs"),
        ({"points": "ab"}, "numbers"),
        ({"points": [(5, float("nan"))]}, "finite"),
        ({"points": [(81, 5)]}, r"\(81, 5\) lies outside the picture, which is 80 x 60"),
        ({"points": [(-1, 5)]}, "outside"),
        ({"points": [(5, 6)], "labels": [1, 0]}, "one label"),
        ({"points": [(5, 6)], "labels": [2]}, "1 .* or 0"),
        ({"points": [(5, 6)], "labels": object()}, "1 .* or 0"),
        ({"points": [(5, 6), (7, 8)], "labels": 1}, "one label"),
        ({"mask": [[1, 2], [3]]}, "an array of numbers"),
        ({"labels": [1]}, "without points"),
        ({"boxes": (1, 2, 3)}, "x0, y0, x1, y1"),
        ({"boxes": (5, 5, 5, 9)}, "no area"),
        ({"boxes": (9, 5, 5, 9)}, "upper left"),
        ({"boxes": (90, 70, 95, 75)}, "outside"),
        ({"boxes": (0, 0, float("inf"), 9)}, "finite"),
        ({"points": [[(1, 1)], [(2, 2)]], "boxes": (1, 1, 5, 5)}, "as many objects"),
        ({"mask": np.zeros((5, 5), bool)}, r"picture's size, 60 x 80"),
        ({"mask": np.zeros(SIZE, bool)}, "empty"),
        ({"mask": np.zeros(5)}, "mask is"),
    ],
)
def test_mistakes(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidPrompt, match=message):
        parse(**arguments)
