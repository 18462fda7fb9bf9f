"""What runs on a GPU only, on a device that pretends to be one (pretended.py): right, and waited for at the end only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("pretended.py")
END = {"a download, nets/running.py"}
"""Answers that are fetched together."""


Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=["nano", "sam2", "sam1"])
def both(request: pytest.FixtureRequest) -> tuple[Told, Told]:
    """What each step told of itself, as it is and within `torch.autocast`."""
    ran = subprocess.run([sys.executable, str(SCRIPT), request.param], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    plain, autocast = (json.loads(line) for line in ran.stdout.splitlines()[-2:])
    return plain, autocast


@pytest.fixture
def told(both: tuple[Told, Told]) -> Told:
    return both[0]


def test_the_same_answers(told: Told) -> None:
    compared = {step: one for step, one in told.items() if "masks" in one}
    assert len(compared) >= 6
    for step, one in compared.items():
        want, got = one["masks"]
        assert want == got > 0, step
        assert one["pixels"] <= 2 * want, step  # pixels that lie on the threshold
        # automatic ones are told in 16 bits: a difference in the last float32 bits may round to the next of them, no farther
        assert one["logits"] < 2e-3 or (step.startswith("everything") and one["logits"] <= one["16 bits"]), step
        assert one["scores"] < 1e-5, step


def test_nothing_is_waited_for_before_the_end(told: Told) -> None:
    assert told["encode again"]["waits"] == {}
    prompts = {"click", "boxes", "refine", "rough", "preview"}
    frames = {step for step in told if step.startswith(("frame", "again"))}
    for step in prompts | frames:
        assert set(told[step]["waits"]) == END, step


def test_automatic_masks_wait_for_what_is_good_and_for_the_border(told: Told) -> None:
    """Of each of the two batches and of the survivors as a whole, never of a mask by itself."""
    waits = told["everything again"]["waits"]
    assert waits.pop("a shape, nets/promptable.py") == 2
    assert waits.pop("a shape, automatic/columns.py") <= 4 * (2 + 1)  # boxes that a quick look missed, and run lengths
    assert waits.pop("a download, automatic/generate.py") == 1
    assert set(waits) == END


def test_autocast_holds_for_encoding(both: tuple[Told, Told], request: pytest.FixtureRequest) -> None:
    """As scripts for Meta's code have it around them: answers are float32's but for what bfloat16 does to the embedding."""
    one = [step for step in both[1].values() if "logits" in step]
    assert len(one) >= 5
    assert 1e-3 < max(step["logits"] for step in one) < 0.3
    # nano looks at its answers again, so that what bfloat16 rounds, to eight bits, goes through it twice
    limit = 4 * 2**-8 if request.node.callspec.params["both"] == "nano" else 0.01
    assert max(step["scores"] for step in one) < limit
