"""The mask decoder: image and prompt to candidate masks with their scores.

Sources: SAM paper, section 3 and appendix A; SAM 2 paper, appendix D ("Mask decoder");
https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam/mask_decoder.py

Letters: N prompts, K masks (four: one for a clear prompt, three for an ambiguous one), C channels, h and w of the embedding,
S = h * w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cells import from_parts, to_parts
from .layers import MLP, Fuser, LayerNorm2d
from .transformer import ImageTokens, TwoWayTransformer

MASK_TOKENS = 4


class ImageFeatures(NamedTuple):
    """What the image encoder gives: all that any later prompt needs."""

    embedding: Tensor
    """(B, C, h, w)."""
    high_res: tuple[Tensor, ...]
    """SAM 2: (B, C/8, 4h, 4w) and (B, C/4, 2h, 2w); SAM 1: nothing."""


class ImageSide(NamedTuple):
    """One image, ready for prompts: its features and what the decoder computes of them once."""

    features: ImageFeatures
    tokens: ImageTokens | None
    """None where prompts are drawn: each brings its own."""
    quarters: Tensor | None
    """SAM 2: (B, S, C) what is added to each cell's four quarters (C/4 channels each), the layer's bias in it; SAM 1: None."""
    sixteenths: Tensor | None
    """SAM 2: (B, 4S, C/2) what is added to each quarter's four quarters (C/8 channels each)."""
    positions: Tensor
    """(1, S, C): where each cell lies."""


class Decoded(NamedTuple):
    """Prompts decoded up to the scores: masks are drawn of it only where they are wanted."""

    mask_tokens: Tensor
    """(N, 4, C)."""
    cells: Tensor
    """(N, S, C)."""
    scores: Tensor
    """(N, 4): the predicted IoU of each mask."""
    object_score: Tensor | None
    """(N, 1) logit that there is an object at all (SAM 2)."""

    def rows(self, index: Tensor) -> Decoded:
        """Some of the prompts."""
        present = None if self.object_score is None else self.object_score[index]
        return Decoded(self.mask_tokens[index], self.cells[index], self.scores[index], present)


class Masks(NamedTuple):
    """Candidate masks of N prompts."""

    logits: Tensor
    """(N, K, 4h, 4w)."""
    scores: Tensor
    """(N, K)."""
    tokens: Tensor
    """(N, K, C): each mask's own token, of which SAM 2 makes the object pointer."""
    object_score: Tensor | None
    """(N, 1)."""

    @classmethod
    def joined(cls, parts: Sequence[Masks]) -> Masks:
        """Masks of several prompts, one after another."""
        logits, scores, tokens, present = zip(*parts, strict=True)
        return cls(torch.cat(logits), torch.cat(scores), torch.cat(tokens), None if present[0] is None else torch.cat(present))


@dataclass(frozen=True)
class DecoderConfig:
    """How a family decodes masks."""

    width: int = 256
    heads: int = 8
    mlp_width: int = 2048
    iou_head_depth: int = 3
    iou_head_width: int = 256
    high_res: bool = True
    """Whether the encoder's finer maps are added while upscaling (SAM 2)."""
    object_score: bool = True
    """Whether a token tells if the object is there (SAM 2)."""
    iou_sigmoid: bool = True
    stability_fallback: bool = True
    """Whether an unstable single mask gives way to the best of three (SAM 2's `dynamic_multimask_via_stability`)."""
    fuser_depth: int = 0
    """ConvNeXt blocks over the cells between dense prompt and transformer; none in the published models."""


class MaskDecoder(nn.Module):
    """Tokens and image cells through the two-way transformer; cells upscaled; each mask is a token's product with them."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, width)
        if config.object_score:
            self.obj_score_token = nn.Embedding(1, width)
            self.pred_obj_score_head = MLP(width, width, 1, 3)
        if config.fuser_depth:
            self.prompt_fuser = Fuser(width, config.fuser_depth, layer_scale=0.1)
        self.transformer = TwoWayTransformer(width, config.heads, config.mlp_width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        if config.high_res:
            self.conv_s0 = nn.Conv2d(width, width // 8, 1)
            self.conv_s1 = nn.Conv2d(width, width // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, width, width // 8, 3) for _ in range(MASK_TOKENS))
        self.iou_prediction_head = MLP(width, config.iou_head_width, MASK_TOKENS, config.iou_head_depth)

    @property
    def upscaling(self) -> tuple[nn.ConvTranspose2d, LayerNorm2d, nn.GELU, nn.ConvTranspose2d, nn.GELU]:
        return cast(
            "tuple[nn.ConvTranspose2d, LayerNorm2d, nn.GELU, nn.ConvTranspose2d, nn.GELU]", tuple(self.output_upscaling)
        )

    def image_side(self, features: ImageFeatures, dense: Tensor, positions: Tensor) -> ImageSide:
        """The work that belongs to the image: `dense` is (1|N, C, 1|h, 1|w), the mask prompt or its absence."""
        tokens = self.tokens_of(features.embedding, dense, positions)
        return ImageSide(features, tokens, *self.finer_parts(features), positions)

    def finer_parts(self, features: ImageFeatures) -> tuple[Tensor | None, Tensor | None]:
        """`quarters` and `sixteenths` of an image's side: the part that no prompt changes."""
        if not self.config.high_res:
            return None, None
        fine, middle = features.high_res
        grow1, _, _, grow2, _ = self.upscaling
        quarters = (to_parts(middle, 1) + bias_of(grow1)).unflatten(1, (-1, 4)).flatten(2)
        return quarters, (to_parts(fine, 2) + bias_of(grow2)).unflatten(1, (-1, 4)).flatten(2)

    def tokens_of(self, embedding: Tensor, dense: Tensor, positions: Tensor) -> ImageTokens:
        """The part of it that a dense prompt changes."""
        embedding = embedding + dense
        if self.config.fuser_depth:
            # Always in the layout that is fastest, and so to the last bit the same for a picture that was saved and read.
            embedding = self.prompt_fuser(embedding.contiguous(memory_format=torch.channels_last))
        return self.transformer.image_tokens(embedding, positions)

    def decode(self, image: ImageSide, sparse: Tensor) -> Decoded:
        """(N, T, C) prompt tokens -> scores, and what masks are drawn of."""
        own = [self.iou_token.weight, self.mask_tokens.weight]
        if self.config.object_score:
            own.insert(0, self.obj_score_token.weight)
        own_tokens = torch.cat(own)  # (5|6, C)
        tokens = torch.cat([own_tokens.expand(sparse.shape[0], -1, -1), sparse], dim=1)  # (N, 5|6 + T, C)
        assert image.tokens is not None, "a drawn prompt has its own"
        tokens, cells = self.transformer(tokens, image.tokens, wanted=len(own_tokens))
        object_score = None
        if self.config.object_score:
            object_score = self.pred_obj_score_head(tokens[:, 0])
            tokens = tokens[:, 1:]
        scores = self.iou_prediction_head(tokens[:, 0])
        if self.config.iou_sigmoid:
            scores = scores.sigmoid()
        return Decoded(mask_tokens=tokens[:, 1:], cells=cells, scores=scores, object_score=object_score)

    def upscale(self, image: ImageSide, cells: Tensor) -> Tensor:
        """(N, S, C) -> (N, 16S, C/8): each cell's sixteen parts, quarter by quarter.

        A transposed convolution whose stride is its size is a linear layer per cell; left in this order, nothing is moved
        before the finished masks.
        """
        grow1, norm, act1, grow2, act2 = self.upscaling
        x = grow_cells(grow1, cells, image.quarters)  # (N, S, 4, C/4)
        x = act1(norm.rows(x)).flatten(1, 2)
        return act2(grow_cells(grow2, x, image.sixteenths)).flatten(1, 2)

    def draw(self, image: ImageSide, decoded: Decoded, upscaled: Tensor, which: Sequence[int]) -> Tensor:
        """The logits of some of the four masks: (N, len(which), 4h, 4w)."""
        heads = [self.output_hypernetworks_mlps[k](decoded.mask_tokens[:, k]) for k in which]
        weights = torch.stack(heads, dim=1)  # (N, K, C/8)
        parts = upscaled @ weights.transpose(1, 2)  # (N, 16S, K)
        _, _, h, w = image.features.embedding.shape
        return from_parts(parts, (h, w), 2)

    def masks(self, image: ImageSide, decoded: Decoded, multimask: bool) -> Masks:
        """Three candidates, or the one mask that the family gives for a clear prompt."""
        upscaled = self.upscale(image, decoded.cells)
        many = range(1, MASK_TOKENS)
        if multimask:
            return self._pack(decoded, self.draw(image, decoded, upscaled, many), many)
        one = self._pack(decoded, self.draw(image, decoded, upscaled, range(1)), range(1))
        if not self.config.stability_fallback or self.training:
            return one
        stable = stability(one.logits[:, 0], offset=0.05) >= 0.98  # (N,)
        if bool(stable.all()):
            return one
        candidates = self._pack(decoded, self.draw(image, decoded, upscaled, many), many)
        rows = torch.arange(len(stable), device=stable.device)
        best = candidates.scores.argmax(dim=1)

        def choose(single: Tensor, several: Tensor) -> Tensor:
            keep = stable.view(-1, *(1 for _ in single.shape[1:]))
            return torch.where(keep, single, several[rows, best][:, None])

        return Masks(
            logits=choose(one.logits, candidates.logits),
            scores=choose(one.scores, candidates.scores),
            tokens=one.tokens,
            object_score=one.object_score,
        )

    @staticmethod
    def _pack(decoded: Decoded, logits: Tensor, which: range) -> Masks:
        rows = slice(which.start, which.stop)
        return Masks(logits, decoded.scores[:, rows], decoded.mask_tokens[:, rows], decoded.object_score)


def bias_of(layer: nn.ConvTranspose2d) -> Tensor:
    return layer.get_parameter("bias")


def grow_cells(grow: nn.ConvTranspose2d, cells: Tensor, more: Tensor | None) -> Tensor:
    """A transposed 2x2 convolution of stride 2 on rows of cells, `more` in its bias' place: (N, S, C) -> (N, S, 4, out)."""
    weight = grow.weight.permute(0, 2, 3, 1).flatten(1)  # (C, 4 * out)
    if more is None:
        x = F.linear(cells, weight.T, bias_of(grow).repeat(4))
    elif len(more) == len(cells) == 1:  # far faster than a batch of one
        x = (cells[0] @ weight)[None]
        x = more + x if x.requires_grad else x.add_(more)
    else:
        x = more + cells @ weight
    return x.unflatten(2, (4, -1))


def stability(logits: Tensor, offset: float) -> Tensor:
    """How little a mask changes as its threshold moves from -offset to +offset: (..., H, W) -> (...) in [0, 1].

    Source: https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam/mask_decoder.py (_get_stability_scores)
    """
    inner = (logits > offset).flatten(-2).sum(-1)
    outer = (logits > -offset).flatten(-2).sum(-1)
    return torch.where(outer > 0, inner / outer, 1.0)


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, as the references do: (N, K, h, w) -> (N, K, H, W)."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
