"""Objects followed through a video: point at any time on any frame, and run.

tracker = model.track("clip.mp4")
tracker.prompt(0, object_id=1, points=[(420, 260)])
for frame in tracker.run():
    frame.segments, frame.occluded
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError, InvalidPrompt, PointcutError
from ..files import replacing
from ..images import Frame
from ..nets.decoder import ImageSide, stability
from ..nets.promptable import Promptable
from ..nets.running import Download
from ..pixels import drawing, frame_to_square, prompts_to_model, rough_to_square
from ..prompts import PointsLike, parse_prompts
from ..segments import Segments
from .bank import FrameMemory, MemoryBank
from .engine import Engine
from .frames import Frames, FrameSource, open_frames


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """One frame's answer."""

    index: int
    seconds: float | None
    """When it is shown, where that is known."""
    segments: Segments
    """One mask for each object, `objects` holds their ids; an object that is out of sight has an empty mask."""

    @property
    def occluded(self) -> np.ndarray:
        """(N,) bool: which objects are out of sight."""
        assert self.segments.object_scores is not None
        return self.segments.object_scores <= 0


@dataclass(eq=False)
class _Thing:
    """One object."""

    bank: MemoryBank
    seen: set[int] = field(default_factory=set)
    """The frames over which it was followed: prompts there are answered with what is remembered."""


class Tracker:
    """Follows objects. Holds a bounded memory: how long the video is makes no difference.

    A frame that a prompt corrects becomes one of the frames that all others look at, and stays so.
    """

    def __init__(self, net: Promptable, name: str, source: FrameSource) -> None:
        self.engine = Engine.of(net, name)
        self.frames: Frames = open_frames(source)
        self._things: dict[int, _Thing] = {}
        self._kept: dict[int, ImageSide] = {}
        self._backwards = False
        self._looks_ahead = self.engine.net.device.type != "cpu" and not self.frames.live

    @property
    def objects(self) -> list[int]:
        """The ids that are followed, in the order in which they were first pointed at."""
        return list(self._things)

    def prompt(
        self,
        frame: int,
        object_id: int,
        points: PointsLike | None = None,
        labels: PointsLike | None = None,
        boxes: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Segments:
        """Says where an object is on a frame; at any time, also about frames that were tracked and objects that are new.

        frame: its number, from 0. object_id: any whole number. points: (T, 2) x, y in pixels; labels: (T,), 1 this, 0 not this.
        boxes: (4,) x0, y0, x1, y1. mask: bool (H, W), taken as it is. Give all clicks for the frame: they replace earlier ones
        there, and refine the mask that was found. Returns the object's mask on that frame. Raises InvalidPrompt, InputError.
        """
        image = self._image(frame)
        if mask is not None and (points is not None or boxes is not None):
            raise InvalidPrompt("give points and a box, or a mask, not both")
        prompts = parse_prompts(points, labels, boxes, mask, image.shape[:2])
        if len(prompts) != 1:
            raise InvalidPrompt(f"one prompt tells of one object, got {len(prompts)}; call it once for each id")
        (prompt,) = prompts
        thing = self._things.get(object_id) or _Thing(MemoryBank(self.engine.memory.config.slots))
        encoded = self._encoded(frame, image)
        with torch.inference_mode():
            if prompt.mask is not None:
                if prompt.mask.dtype != bool:
                    raise InvalidPrompt("a mask that starts a track is bool (H, W)")
                square = rough_to_square(prompt.mask, self.engine.net.mask_size, self.engine.net.device)
                found = self.engine.answer_mask(encoded, square)
            else:
                bank = thing.bank if frame in thing.seen and thing.bank.prompted else None
                said = prompts_to_model(prompts, self._place(image), self.engine.net)
                previous, count = thing.bank.at(frame), self.frames.count
                found = self.engine.answer(encoded, said, previous, bank, frame, count, self._backwards)
            thing.bank.prompted[frame] = self.engine.remember(encoded, found)
        thing.bank.tracked.pop(frame, None)
        self._things[object_id] = thing
        return self._leaving(image, [(object_id, found)])()

    def run(self, start: int | None = None, end: int | None = None, *, reverse: bool = False) -> Iterator[TrackedFrame]:
        """Follows all objects from frame `start` (by default the first that was prompted) to before `end`, or to the last.

        reverse: towards the beginning, down to `end` (by default 0). Prompts may come between two frames; they count from the
        next one on. Raises InputError if nothing was prompted.
        """
        if not self._things:
            raise InputError("nothing to follow yet: point at something first (Tracker.prompt)")
        index = min(i for thing in self._things.values() for i in thing.bank.prompted) if start is None else start
        image = self._wanted(index, end, reverse)
        while image is not None:
            self._backwards = reverse
            segments = self._leaving(image, self._follow(index, image))
            later = index + (-1 if reverse else 1)
            ahead = self._ahead(later, end, reverse) if self._looks_ahead else None
            yield TrackedFrame(index, self.frames.seconds(index), segments())
            index, image = later, self._wanted(later, end, reverse) if ahead is None else ahead

    def remove(self, object_id: int) -> None:
        """Forgets an object. Raises InputError if there is none of that id."""
        if object_id not in self._things:
            raise InputError(f"no object {object_id} is followed; these are: {', '.join(map(str, self._things)) or 'none'}")
        del self._things[object_id]

    def reset(self) -> None:
        """Forgets all objects."""
        self._things.clear()

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Writes what is remembered, with a few words of the caller's, to a safetensors file: tracking can go on from there."""
        tensors, about = {}, {}
        for object_id, thing in self._things.items():
            scores = {}
            for kind, known in (("prompted", thing.bank.prompted), ("tracked", thing.bank.tracked)):
                for frame, one in known.items():
                    name = f"{object_id}/{kind}/{frame}"
                    scores[f"{kind}/{frame}"] = float(one.score)
                    for part in ("logits", "present", "pointer", "memory"):
                        value = getattr(one, part)
                        if value is not None:
                            tensors[f"{name}/{part}"] = value.cpu().contiguous()
            about[str(object_id)] = {"scores": scores, "seen": sorted(thing.seen)}
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"tracker": json.dumps(about), **metadata})

    def restore(self, path: Path) -> dict[str, str]:
        """Reads what `save` wrote; gives the caller's words back. Raises InputError."""
        device = str(self.engine.net.device)
        try:
            with safe_open(path, "pt", device=device) as file:
                metadata = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            about = json.loads(metadata.pop("tracker"))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{path}: is not a tracker's state ({error})") from None
        self.reset()
        for object_id, told in about.items():
            bank = MemoryBank(self.engine.memory.config.slots)
            for place, score in told["scores"].items():
                kind, _, frame = place.partition("/")
                name = f"{object_id}/{place}"
                logits, present, pointer = (tensors[f"{name}/{part}"] for part in ("logits", "present", "pointer"))
                one = FrameMemory(
                    logits,
                    present,
                    pointer,
                    torch.tensor([score], dtype=torch.float32, device=device),
                    tensors.get(f"{name}/memory"),
                )
                getattr(bank, kind)[int(frame)] = one
            self._things[int(object_id)] = _Thing(bank, set(told["seen"]))
        return metadata

    def _wanted(self, index: int, end: int | None, reverse: bool) -> np.ndarray | None:
        """A frame that is still to be followed; None beyond the last."""
        if index < (end or 0) if reverse else end is not None and index >= end:
            return None
        try:
            return self.frames[index]
        except IndexError:
            return None

    def _ahead(self, index: int, end: int | None, reverse: bool) -> np.ndarray | None:
        """The next frame, read and handed to a GPU that is busy with this one still, before this one's masks are waited for."""
        try:
            image = self._wanted(index, end, reverse)
        except PointcutError:  # it is said when its turn has come
            return None
        if image is not None:
            self._encoded(index, image)
        return image

    def _follow(self, index: int, image: np.ndarray) -> list[tuple[int, FrameMemory]]:
        found = []
        things = list(self._things.items())
        followed = [thing.bank for _, thing in things if index not in thing.bank.prompted]
        if followed:
            frame = self._encoded(index, image)
            answers = self.engine.track(frame, followed, index, self.frames.count, self._backwards)
            for bank, answer in zip(followed, answers, strict=True):
                bank.tracked[index] = answer
        for object_id, thing in things:
            known = thing.bank.prompted.get(index) or thing.bank.tracked[index]
            thing.bank.forget(index, self._backwards)
            thing.seen.add(index)
            found.append((object_id, known))
        return found

    def _image(self, index: int) -> np.ndarray:
        try:
            return self.frames[index]
        except IndexError:
            last = f"; the last is {self.frames.count - 1}" if self.frames.count else ""
            raise InputError(f"there is no frame {index}{last}") from None

    def _encoded(self, index: int, image: np.ndarray) -> ImageSide:
        if index not in self._kept:
            while len(self._kept) > self._looks_ahead:  # the frame before stays where the next one is begun early
                del self._kept[next(iter(self._kept))]
            with torch.inference_mode():
                square = frame_to_square(image, self.engine.net.input_size, self.engine.net.device)
                self._kept[index] = self.engine.encode(square)
        return self._kept[index]

    def _place(self, image: np.ndarray) -> Frame:
        return Frame(image.shape[0], image.shape[1], self.engine.net.input_size, "squash")

    def _leaving(self, image: np.ndarray, found: list[tuple[int, FrameMemory]]) -> Callable[[], Segments]:
        """What was found, on its way from the device: what that is asked for in the meantime is not waited for."""
        with torch.inference_mode():
            logits = torch.cat([one.logits for _, one in found])
            scores, present = (
                torch.cat(column) for column in zip(*((one.score, one.present[:, 0]) for _, one in found), strict=True)
            )
            masks = drawing(logits, self._place(image))
            download = Download(scores, stability(logits[:, 0], offset=1.0), logits[:, 0], present)

        def segments() -> Segments:
            arrays = dict(zip(("scores", "stability", "logits", "object_scores"), download.arrays(), strict=True))
            objects = np.array([object_id for object_id, _ in found])
            return Segments(image, stored=masks()[:, 0], objects=objects, prompts=(), **arrays)

        return segments
