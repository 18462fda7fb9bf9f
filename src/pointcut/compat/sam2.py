"""The names of Meta's `sam2`, with its shapes, types, defaults and error texts; those for images are written here.

    from pointcut.compat.sam2 import build_sam2, SAM2ImagePredictor

Source: https://github.com/facebookresearch/sam2 (sam2_image_predictor.py, automatic_mask_generator.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..automatic.config import AutomaticConfig
from ..components import fill_small
from ..images import Frame, open_image
from ..nets.promptable import Promptable
from ..nets.prompts import Prompts
from ..nets.running import as_tensor
from ..segment.segmenter import Segmenter
from ..segment.session import EncodedImage, Encoder
from .automatic import MaskGenerator, grids
from .sam2_build import HF_MODEL_ID_TO_FILENAMES, build_sam2, build_sam2_hf, refuse
from .sam2_video import SAM2VideoPredictor, build_sam2_video_predictor, build_sam2_video_predictor_hf

__all__ = [
    "HF_MODEL_ID_TO_FILENAMES",
    "SAM2AutomaticMaskGenerator",
    "SAM2ImagePredictor",
    "SAM2VideoPredictor",
    "build_sam2",
    "build_sam2_hf",
    "build_sam2_video_predictor",
    "build_sam2_video_predictor_hf",
]


class SAM2ImagePredictor:
    """`set_image` once, `predict` many times; results are the session's, in the reference's shapes and types."""

    def __init__(
        self,
        sam_model: Promptable,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **kwargs: object,
    ) -> None:
        refuse(kwargs)
        self.model = sam_model
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2ImagePredictor:
        """A Hub id, or a name or file that `pointcut.load` takes."""
        own = {k: kwargs.pop(k) for k in ("mask_threshold", "max_hole_area", "max_sprinkle_area") if k in kwargs}
        return cls(build_sam2_hf(model_id, **kwargs), **own)

    def set_image(self, image: np.ndarray | Image.Image) -> None:
        """HxWxC uint8 RGB, or a PIL image."""
        if not isinstance(image, np.ndarray | Image.Image):
            raise NotImplementedError("Image format not supported")
        self.reset_predictor()
        self._keep(self._encoder().encode([open_image(image)]))

    def set_image_batch(self, image_list: list[np.ndarray]) -> None:
        """Several HxWxC uint8 RGB arrays."""
        if not isinstance(image_list, list):
            raise AssertionError
        if not all(isinstance(image, np.ndarray) for image in image_list):
            raise AssertionError("Images are expected to be an np.ndarray in RGB format, and of shape  HWC")
        self.reset_predictor()
        self._keep(Segmenter(self._encoder()).encode_batch(image_list))
        self._is_batch = True

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points Nx2 (or BxNx2) with labels, boxes of length 4 (or Bx4), masks 1xHxW; `normalize_coords`: they are pixels.

        Returns masks CxHxW float32 of 0 and 1 (logits if asked for), scores C, low-resolution logits CxHxW within +-32; with B
        prompts each has B in front.
        """
        if not self._is_image_set:
            raise RuntimeError("An image must be set with .set_image(...) before mask prediction.")
        return self._answer(0, point_coords, point_labels, box, mask_input, multimask_output, return_logits, normalize_coords)

    def predict_batch(
        self,
        point_coords_batch: list[np.ndarray] | None = None,
        point_labels_batch: list[np.ndarray] | None = None,
        box_batch: list[np.ndarray] | None = None,
        mask_input_batch: list[np.ndarray] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """`predict` for each image of `set_image_batch`: three lists."""
        if not self._is_batch:
            raise AssertionError("This function should only be used when in batched mode")
        if not self._is_image_set:
            raise RuntimeError("An image must be set with .set_image_batch(...) before mask prediction.")

        def of(batch: list[np.ndarray] | None, i: int) -> np.ndarray | None:
            return None if batch is None else batch[i]

        answers = [
            self._answer(
                i,
                of(point_coords_batch, i),
                of(point_labels_batch, i),
                of(box_batch, i),
                of(mask_input_batch, i),
                multimask_output,
                return_logits,
                normalize_coords,
            )
            for i in range(len(self._encoded))
        ]
        masks, scores, low_res = ([answer[part] for answer in answers] for part in range(3))
        return masks, scores, low_res

    def _answer(
        self,
        img_idx: int,
        point_coords: np.ndarray | None,
        point_labels: np.ndarray | None,
        box: np.ndarray | None,
        mask_input: np.ndarray | None,
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frame = self._encoded[img_idx].frame
        coords = labels = boxes = mask = None
        if point_coords is not None:
            if point_labels is None:
                raise AssertionError("point_labels must be supplied if point_coords is supplied.")
            coords = torch.from_numpy(_to_model(np.asarray(point_coords), frame, normalize_coords))
            labels = as_tensor(point_labels, torch.int32)
            if coords.ndim == 2:
                coords, labels = coords[None], labels[None]
        if box is not None:
            boxes = torch.from_numpy(_to_model(np.asarray(box).reshape(-1, 2, 2), frame, normalize_coords))
        if mask_input is not None:
            mask = as_tensor(mask_input, torch.float32)
            if mask.ndim == 3:
                mask = mask[None]
        masks, scores, low_res = self._predict(coords, labels, boxes, mask, multimask_output, return_logits, img_idx)
        return (
            masks.squeeze(0).float().cpu().numpy(),
            scores.squeeze(0).float().cpu().numpy(),
            low_res.squeeze(0).float().cpu().numpy(),
        )

    @torch.no_grad()
    def _predict(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        img_idx: int = -1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tensors in pixels of the model's square: points BxNx2, labels BxN, boxes Bx4 or Bx2x2, masks Bx1x256x256.

        Returns masks BxCxHxW (bool; logits if asked for), scores BxC, low-resolution logits BxCx256x256.
        """
        if not self._is_image_set:
            raise RuntimeError("An image must be set with .set_image(...) before mask prediction.")
        encoded = self._encoded[img_idx]
        flat = None if boxes is None else boxes.reshape(-1, 4)
        parts = (None if x is None else x.to(encoded.device) for x in (point_coords, point_labels, flat, mask_input))
        answer = encoded.decode(Prompts(*parts), multimask_output)
        masks = encoded.masks_of(self._cleaned(answer.logits))
        return masks if return_logits else masks > self.mask_threshold, answer.scores, self.model.limited(answer.logits)

    def _cleaned(self, logits: Tensor) -> Tensor:
        """Fills small holes and drops small islands at low resolution, as the reference does where it has CUDA."""
        if self.max_hole_area <= 0 and self.max_sprinkle_area <= 0:
            return logits
        clean = logits.float().cpu().numpy().copy()
        for mask in clean.reshape(-1, *clean.shape[-2:]):
            original = mask > self.mask_threshold
            if self.max_hole_area > 0:
                mask[fill_small(original, self.max_hole_area)] = self.mask_threshold + 10.0
            if self.max_sprinkle_area > 0:
                mask[fill_small(~original, self.max_sprinkle_area)] = self.mask_threshold - 10.0
        return torch.from_numpy(clean).to(logits.device)

    def get_image_embedding(self) -> Tensor:
        """1xCxHxW."""
        if not self._is_image_set:
            raise RuntimeError("An image must be set with .set_image(...) to generate an embedding.")
        return self._encoded[0].features.embedding

    @property
    def device(self) -> torch.device:
        return self.model.device

    def reset_predictor(self) -> None:
        """Forgets the images."""
        self._is_image_set = False
        self._features: dict[str, Any] | None = None
        self._orig_hw: list[tuple[int, int]] | None = None
        self._is_batch = False
        self._encoded: list[EncodedImage] = []

    def _encoder(self) -> Encoder:
        return Encoder(self.model, "model")

    def _keep(self, encoded: list[EncodedImage]) -> None:
        self._encoded = encoded
        levels = zip(*(e.features.high_res for e in encoded), strict=True)
        self._features = {
            "image_embed": torch.cat([e.features.embedding for e in encoded]),
            "high_res_feats": [torch.cat(level) for level in levels],
        }
        self._orig_hw = [e.size for e in encoded]
        self._is_image_set = True


def _to_model(coords: np.ndarray, frame: Frame, pixels: bool) -> np.ndarray:
    """(..., 2) in the picture's pixels, or in [0, 1] -> pixels of the model's square, float32."""
    if pixels:
        return frame.points_to_model(coords)
    return (np.asarray(coords, np.float64) * frame.side).astype(np.float32)


class SAM2AutomaticMaskGenerator(MaskGenerator):
    """Everything in an image, as SAM 2's generator gives it.

    `points_per_batch` is for a GPU: on a CPU points are decoded one by one, which is the fastest there. `min_mask_region_area`
    does what the reference's docstring says, on every device, in pixels of the image (SAM 1's rule).
    """

    def __init__(
        self,
        model: Promptable,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: object,
    ) -> None:
        refuse(kwargs)
        config = AutomaticConfig(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            mask_threshold=mask_threshold,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=grids(point_grids),
            min_mask_region_area=min_mask_region_area,
            use_m2m=use_m2m,
            multimask_output=multimask_output,
        )
        super().__init__(model, config, output_mode)

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2AutomaticMaskGenerator:
        """A Hub id, or a name or file that `pointcut.load` takes; `device` goes to the model, the rest to the search."""
        device = {"device": kwargs.pop("device")} if "device" in kwargs else {}
        return cls(build_sam2_hf(model_id, **device), **kwargs)
