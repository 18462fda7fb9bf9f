"""The names of Meta's `sam2` for videos, with its shapes, types, defaults and error texts.

    from pointcut.compat.sam2 import build_sam2_video_predictor

Source: https://github.com/facebookresearch/sam2 (build_sam.py, sam2_video_predictor.py).

Frames are read when they are needed instead of all beforehand; what was found on a frame is kept until the state is dropped, as
there. `pointcut.Segmenter.track` is the tracker with bounded memory, in which corrections stay.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..components import fill_small
from ..errors import InputError
from ..nets.decoder import ImageSide
from ..nets.following import ABSENT
from ..nets.layers import bilinear
from ..nets.promptable import Promptable
from ..nets.prompts import BOTTOM_RIGHT, TOP_LEFT, Prompts
from ..nets.running import as_tensor, upload
from ..pixels import frame_to_square, rough_to_square
from ..video.bank import FrameMemory, MemoryBank
from ..video.engine import Engine
from ..video.frames import Frames, open_frames
from ..weights import specs
from ..weights.load import locate
from .sam2_build import build_sam2, config_name

State = dict[str, Any]
Answer = tuple[int, list[Any], Tensor]


@dataclass
class TrackedObject:
    """One object of a state."""

    bank: MemoryBank
    pending: dict[int, tuple[bool, FrameMemory]] = field(default_factory=dict)
    """What was answered to prompts since the last propagation: whether the frame becomes a conditioning one, and the answer."""
    directions: dict[int, bool] = field(default_factory=dict)
    """The frames that were propagated over, and whether in reverse."""
    points: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    masks: dict[int, Tensor] = field(default_factory=dict)

    def at(self, frame: int) -> FrameMemory | None:
        pending = self.pending.get(frame)
        return pending[1] if pending else self.bank.at(frame)


class SAM2VideoPredictor:
    """Prompts on frames, and their propagation through a video."""

    def __init__(
        self,
        model: Promptable,
        fill_hole_area: int = 0,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
        binarize_mask_from_pts_for_mem_enc: bool = True,
    ) -> None:
        self.model = model
        self.engine = Engine.of(model, "this network", binarize_mask_from_pts_for_mem_enc)
        self.image_size = model.input_size
        self.fill_hole_area = fill_hole_area
        self.non_overlap_masks = non_overlap_masks
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond

    @property
    def device(self) -> torch.device:
        return self.model.device

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
        """The predictor of a Hub repository."""
        return build_sam2_video_predictor_hf(model_id, **kwargs)

    @torch.inference_mode()
    def init_state(
        self,
        video_path: str | os.PathLike[str] | Frames,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,  # noqa: ARG002  # frames are always read when they are needed
    ) -> State:
        """The state of a video: an mp4 file, or a folder of numbered JPEG files."""
        frames = open_frames(video_path)
        height, width = frames[0].shape[:2]
        state: State = {
            "images": frames,
            "num_frames": how_many(frames),
            "offload_video_to_cpu": offload_video_to_cpu,
            "offload_state_to_cpu": offload_state_to_cpu,
            "video_height": height,
            "video_width": width,
            "device": self.device,
            "storage_device": torch.device("cpu") if offload_state_to_cpu else self.device,
            "cached_features": OrderedDict(),
            "objects": OrderedDict(),
        }
        self._frame(state, 0)
        return state

    @torch.inference_mode()
    def add_new_points_or_box(
        self,
        inference_state: State,
        frame_idx: int,
        obj_id: Any,
        points: Any = None,
        labels: Any = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: Any = None,
    ) -> Answer:
        """Points (P, 2) with labels (P,), or a box (4,), in pixels of the video -> frame, ids, logits (N, 1, H, W)."""
        if (points is not None) != (labels is not None):
            raise ValueError("points and labels must be provided together")
        if points is None and box is None:
            raise ValueError("at least one of points or box must be provided as input")
        coords = as_tensor([] if points is None else points, torch.float32)
        kinds = as_tensor([] if labels is None else labels, torch.int32)
        coords, kinds = coords.reshape(1, -1, 2), kinds.reshape(1, -1)
        if box is not None:
            if not clear_old_points:
                raise ValueError(
                    "cannot add box without clearing old points, since box prompt must be provided before any point prompt "
                    "(please use clear_old_points=True instead)"
                )
            corners = as_tensor(box, torch.float32).reshape(1, 2, 2)
            coords = torch.cat([corners, coords], dim=1)
            kinds = torch.cat([as_tensor([[TOP_LEFT, BOTTOM_RIGHT]], torch.int32), kinds], dim=1)
        if normalize_coords:
            coords = coords / as_tensor([inference_state["video_width"], inference_state["video_height"]], torch.float32)
        coords, kinds = upload(coords * self.image_size, self.device), upload(kinds, self.device)
        thing = self._object(inference_state, obj_id)
        old = None if clear_old_points else thing.points.get(frame_idx)
        if old is not None:
            coords, kinds = torch.cat([old[0], coords], dim=1), torch.cat([old[1], kinds], dim=1)
        thing.points[frame_idx] = coords, kinds
        thing.masks.pop(frame_idx, None)
        first = frame_idx not in thing.directions
        answer = self.engine.answer(
            self._frame(inference_state, frame_idx),
            as_prompts(coords, kinds),
            thing.at(frame_idx),
            None if first else thing.bank,
            frame_idx,
            inference_state["num_frames"],
            thing.directions.get(frame_idx, False),
        )
        return self._answered(inference_state, frame_idx, thing, answer, first)

    def add_new_points(self, *args: Any, **kwargs: Any) -> Answer:
        """The old name of `add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    @torch.inference_mode()
    def add_new_mask(self, inference_state: State, frame_idx: int, obj_id: Any, mask: Any) -> Answer:
        """A mask (H, W) -> frame, ids, logits (N, 1, H, W)."""
        given = np.asarray(mask, bool)
        if given.ndim != 2:
            raise AssertionError(f"mask must have two axes (H, W), has {given.ndim}")
        square = rough_to_square(given, self.engine.net.mask_size, self.device)
        thing = self._object(inference_state, obj_id)
        thing.masks[frame_idx] = square
        thing.points.pop(frame_idx, None)
        answer = self.engine.answer_mask(self._frame(inference_state, frame_idx), square)
        return self._answered(inference_state, frame_idx, thing, answer, frame_idx not in thing.directions)

    @torch.inference_mode()
    def propagate_in_video_preflight(self, inference_state: State) -> None:
        """Remembers what was answered to prompts."""
        objects = inference_state["objects"]
        if not objects:
            raise RuntimeError("No input points or masks are provided for any object; please add inputs first.")
        for obj_id, thing in objects.items():
            for index, (conditions, answer) in thing.pending.items():
                known = answer
                if known.memory is None:
                    known = self.engine.remember(self._frame(inference_state, index), answer)
                (thing.bank.prompted if conditions else thing.bank.tracked)[index] = known
                if self.clear_non_cond_mem_around_input:
                    thing.bank.clear_around(index)
            thing.pending.clear()
            if not thing.bank.prompted:
                raise RuntimeError(f"No input points or masks are provided for object id {obj_id}; please add inputs first.")
            for index in thing.bank.prompted:
                thing.bank.tracked.pop(index, None)

    @torch.inference_mode()
    def propagate_in_video(
        self,
        inference_state: State,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Answer]:
        """Frame after frame: its number, the ids, and logits (N, 1, H, W)."""
        self.propagate_in_video_preflight(inference_state)
        objects, count = inference_state["objects"], inference_state["num_frames"]
        start = start_frame_idx
        if start is None:
            start = min(index for thing in objects.values() for index in thing.bank.prompted)
        most = count if max_frame_num_to_track is None else max_frame_num_to_track
        order = range(start, max(start - most, 0) - 1, -1) if reverse else range(start, min(start + most, count - 1) + 1)
        if reverse and start == 0:
            order = range(0)
        for index in order:
            frame = self._frame(inference_state, index)
            followed = [thing.bank for thing in objects.values() if index not in thing.bank.prompted]
            for bank, found in zip(followed, self.engine.track(frame, followed, index, count, reverse), strict=True):
                bank.tracked[index] = self._filled(found)
            masks = []
            for thing in objects.values():
                known = thing.bank.prompted.get(index)
                if known is not None and self.clear_non_cond_mem_around_input:
                    thing.bank.clear_around(index)
                thing.directions[index] = reverse
                masks.append((known or thing.bank.tracked[index]).logits)
            yield index, list(objects), self._at_video_size(inference_state, torch.cat(masks))

    @torch.inference_mode()
    def clear_all_prompts_in_frame(
        self, inference_state: State, frame_idx: int, obj_id: Any, need_output: bool = True
    ) -> Answer | None:
        """Forgets what was said about an object on a frame."""
        thing = self._object(inference_state, obj_id)
        thing.points.pop(frame_idx, None)
        thing.masks.pop(frame_idx, None)
        thing.pending.pop(frame_idx, None)
        known = thing.bank.prompted.pop(frame_idx, None)
        if known is not None:  # it stays as what it would have been without a prompt
            thing.bank.tracked[frame_idx] = known
            thing.directions.pop(frame_idx, None)
        return self._consolidated(inference_state, frame_idx) if need_output else None

    def remove_object(
        self, inference_state: State, obj_id: Any, strict: bool = False, need_output: bool = True
    ) -> tuple[list[Any], list[tuple[int, Tensor]]]:
        """Forgets an object; returns the ids that are left, and the frames on which it had been prompted."""
        objects = inference_state["objects"]
        if obj_id not in objects:
            if strict:
                raise RuntimeError(
                    f"Cannot remove object id {obj_id} as it doesn't exist. All existing object ids: {list(objects)}."
                )
            return list(objects), []
        thing = objects.pop(obj_id)
        prompted = sorted({*thing.points, *thing.masks})
        if not objects:
            self.reset_state(inference_state)
            return [], []
        if not need_output:
            return list(objects), []
        return list(objects), [(index, self._consolidated(inference_state, index)[2]) for index in prompted]

    def reset_state(self, inference_state: State) -> None:
        """Forgets all objects."""
        inference_state["objects"].clear()

    def _object(self, state: State, obj_id: Any) -> TrackedObject:
        objects = state["objects"]
        if obj_id not in objects:
            objects[obj_id] = TrackedObject(MemoryBank(self.engine.memory.config.slots))
        return objects[obj_id]

    def _frame(self, state: State, index: int) -> ImageSide:
        cached = state["cached_features"]
        if index not in cached:
            cached.clear()
            cached[index] = self.engine.encode(frame_to_square(state["images"][index], self.image_size, self.device))
        return cached[index]

    def _answered(self, state: State, index: int, thing: TrackedObject, answer: FrameMemory, first: bool) -> Answer:
        thing.pending[index] = first or self.add_all_frames_to_correct_as_cond, self._filled(answer)
        return self._consolidated(state, index)

    def _filled(self, known: FrameMemory) -> FrameMemory:
        """Small holes of a low-resolution mask are closed."""
        if self.fill_hole_area <= 0:
            return known
        logits = known.logits.cpu().numpy().copy()
        logits[0, 0][fill_small(logits[0, 0] > 0, self.fill_hole_area)] = 0.1
        return replace(known, logits=torch.from_numpy(logits).to(known.logits.device))

    def _consolidated(self, state: State, index: int) -> Answer:
        side = self.model.prompt_encoder.side * 4
        absent = torch.full((1, 1, side, side), ABSENT, dtype=torch.float32, device=self.device)
        known = [thing.at(index) for thing in state["objects"].values()]
        with torch.inference_mode():
            masks = torch.cat([absent if one is None else one.logits for one in known])
            return index, list(state["objects"]), self._at_video_size(state, masks)

    def _at_video_size(self, state: State, logits: Tensor) -> Tensor:
        masks = bilinear(logits, (state["video_height"], state["video_width"]))
        return without_overlap(masks) if self.non_overlap_masks else masks


def how_many(frames: Frames) -> int:
    """Counts a film's frames, which only decoding it tells."""
    index = frames.count or 0
    while frames.count is None:
        try:
            frames[index]
        except IndexError:
            break
        index += 1
    return index


def as_prompts(coords: Tensor, kinds: Tensor) -> Prompts:
    """Points (1, P, 2) with labels (1, P); a box comes as its two corners, before all points."""
    if not (kinds == TOP_LEFT).any():
        return Prompts(points=coords, labels=kinds)
    box = coords[:, :2].flatten(1)
    return Prompts(coords[:, 2:], kinds[:, 2:], box) if kinds.shape[1] > 2 else Prompts(boxes=box)


def without_overlap(masks: Tensor) -> Tensor:
    """Keeps each pixel only in the object with the highest logit there: (N, 1, H, W)."""
    highest = masks.argmax(dim=0, keepdim=True)
    own = torch.arange(len(masks), device=masks.device)[:, None, None, None]
    return torch.where(highest == own, masks, masks.clamp(max=-10.0))


OPTIONS = (
    "fill_hole_area",
    "non_overlap_masks",
    "clear_non_cond_mem_around_input",
    "add_all_frames_to_correct_as_cond",
    "binarize_mask_from_pts_for_mem_enc",
)
"""The predictor's own settings, which may come as keywords or as `++model.NAME=VALUE`."""


def build_sam2_video_predictor(
    config_file: str,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,  # noqa: ARG001  # there is one way here, and it is the fast one
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """The video predictor of a config file and a checkpoint (see `build_sam2`)."""
    options: dict[str, Any] = {"binarize_mask_from_pts_for_mem_enc": apply_postprocessing}
    if apply_postprocessing:
        options["fill_hole_area"] = 8
    for override in hydra_overrides_extra:
        name, _, value = override.lstrip("+").removeprefix("model.").partition("=")
        if name not in OPTIONS:
            raise InputError(f"hydra override {override!r} is not supported; these are: {', '.join(OPTIONS)}")
        options[name] = {"true": True, "false": False}.get(value.lower()) if not value.isdigit() else int(value)
    unknown = kwargs.keys() - set(OPTIONS)
    if unknown:
        raise TypeError(f"unexpected keyword {sorted(unknown)[0]!r}")
    net = build_sam2(config_file, ckpt_path, device, mode, (), apply_postprocessing)
    return SAM2VideoPredictor(net, **(options | kwargs))


def build_sam2_video_predictor_hf(model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
    """The video predictor of a Hub repository."""
    spec = specs.find(model_id)
    if spec is None:
        raise specs.unknown(model_id)
    return build_sam2_video_predictor(config_name(spec), locate(model_id)[0], **kwargs)
