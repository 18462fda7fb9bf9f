"""Tracking into a folder: frame by frame into a journal, so that a job that was killed goes on where it was.

The journal (JSON lines) holds one frame a line. Every so often the tracker's memory is written beside it; on the next start the
journal is cut back to that frame, and what follows is computed again: the same file comes out as without the interruption.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..files import make_folder, writing
from ..images import open_mask
from ..segments import Segments
from .tracker import TrackedFrame, Tracker

EVERY = 20
"""Frames between two saves of the memory."""


@dataclass(frozen=True)
class Said:
    """One prompt of the job, as the journal keeps it."""

    frame: int
    object_id: int
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, ...] | None = None
    mask: str | None = None
    """A picture's path: what is not black is the object."""


@dataclass(frozen=True)
class TrackJob:
    """What is to be tracked, and where the results go."""

    video: str
    model: str
    said: tuple[Said, ...]
    folder: Path
    stem: str
    start: int | None = None
    end: int | None = None
    scale: str | None = None
    """How deep values become 8 bits (`Scaling.parse`)."""

    @property
    def journal(self) -> Path:
        return self.folder / f"{self.stem}.track.jsonl"

    @property
    def memory(self) -> Path:
        """The tracker's memory while the job is not done."""
        return self.folder / f"{self.stem}.track.memory"

    @property
    def head(self) -> str:
        """The journal's first line: what was asked."""
        said = [[s.frame, s.object_id, s.points, s.labels, s.box, s.mask] for s in self.said]
        asked = {"video": self.video, "model": self.model, "prompts": said, "start": self.start, "end": self.end}
        return json.dumps(asked | ({"scale": self.scale} if self.scale else {})) + "\n"


def run_job(job: TrackJob, tracker: Tracker, *, fresh: bool = False, progress: Callable[[int], None] | None = None) -> int:
    """Tracks to the end; returns at which frame it began anew or went on. Raises OutputError, InvalidPrompt, InputError."""
    make_folder(job.folder)
    begin = None if fresh else _left_at(job, tracker)
    if begin is None:
        with suppress(FileNotFoundError):
            job.memory.unlink()
        for said in job.said:
            points, labels = [list(point) for point in said.points] or None, list(said.labels) or None
            mask = None if said.mask is None else open_mask(said.mask)
            tracker.prompt(said.frame, said.object_id, points=points, labels=labels, boxes=said.box, mask=mask)
        begin = job.start if job.start is not None else min(said.frame for said in job.said)
        _write(job.journal, job.head, "w")
    done = begin
    with _opened(job.journal) as journal:
        for frame in tracker.run(begin, job.end):
            journal.write(json.dumps(row_of(frame)) + "\n")
            done = frame.index + 1
            if (done - begin) % EVERY == 0:
                _settle(journal)
                tracker.save(job.memory, {"next": str(done)})
            if progress is not None:
                progress(done)
        _settle(journal)
    tracker.save(job.memory, {"next": str(done)})
    return begin


def _left_at(job: TrackJob, tracker: Tracker) -> int | None:
    """Where an earlier start of the same job left off, or None; the journal is cut back to there."""
    try:
        lines = job.journal.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    if not lines or lines[0] != job.head:
        raise OutputError(
            f"{job.journal}: holds another job (other prompts, model or frames); use another folder, or --fresh to overwrite it"
        )
    if not job.memory.is_file():
        return None
    goes_on = int(tracker.restore(job.memory)["next"])
    kept = [line for line in lines[1:] if line.endswith("\n") and json.loads(line)["frame"] < goes_on]
    temporary = job.journal.with_suffix(".tmp")
    _write(temporary, "".join([lines[0], *kept]), "w")
    os.replace(temporary, job.journal)
    return goes_on


def row_of(frame: TrackedFrame) -> dict[str, Any]:
    """One frame for the journal."""
    cut = frame.segments
    assert cut.object_scores is not None
    objects = [
        {
            "id": int(cut.objects[i]),
            "occluded": bool(frame.occluded[i]),
            "object_score": round(float(cut.object_scores[i]), 4),
            "score": round(float(cut.scores[i]), 4),
            "stability": round(float(cut.stability[i]), 4),
            "area": int(cut.areas[i]),
            "box_xyxy": cut.boxes_xyxy[i].tolist(),
            "rle": rle,
        }
        for i, rle in enumerate(cut.rle())
    ]
    return {"frame": frame.index, "seconds": frame.seconds, "objects": objects}


def rows(journal: Path) -> Iterator[dict[str, Any]]:
    """The frames of a journal."""
    with journal.open() as lines:
        next(lines)
        yield from map(json.loads, lines)


def segments_of(row: dict[str, Any], image: np.ndarray) -> Segments:
    """A frame's segments, read back."""
    objects: Sequence[dict[str, Any]] = row["objects"]
    cut = Segments.read_back(image, [one["rle"] for one in objects], objects, [one["id"] for one in objects])
    return replace(cut, object_scores=np.array([one["object_score"] for one in objects], np.float32))


def _write(path: Path, text: str, mode: str) -> None:
    with _opened(path, mode) as file:
        file.write(text)
        _settle(file)


def _opened(path: Path, mode: str = "a") -> Any:
    with writing(path):
        return path.open(mode)


def _settle(file: Any) -> None:
    """Everything written so far survives a crash."""
    with writing(file.name):
        file.flush()
        os.fsync(file.fileno())
