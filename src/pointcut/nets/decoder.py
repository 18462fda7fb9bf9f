"""The mask decoder: image and prompt to candidate masks with their scores.

Sources: SAM paper, section 3 and appendix A; SAM 2 paper, appendix D ("Mask decoder");
https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam/mask_decoder.py

Letters: N prompts, K masks (four: one for a clear prompt, three for an ambiguous one), C channels, h and w of the embedding,
S = h * w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from . import folding
from .cells import from_parts, masks_from_parts, spread, to_parts
from .compiled import CompiledDecoder
from .layers import MLP, Fuser, LayerNorm2d, Part
from .mixtures import Mixtures, SharedCells, shared_cells, transform
from .processor import infers_on_cpu
from .transformer import ImageTokens, TwoWayTransformer
from .upscaling import CELLS, Upscaling, bias_of, linear

MASK_TOKENS = 4

MOSTLY = 0.4
"""Of a prompt that draws on more of the cells all are computed anew: with what its neighbours see it is most of them."""


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
    quarters: Tensor
    """What is added to each cell's four quarters (C/4 channels each), the layer's bias in it: (B, S, C), or SAM 1 (1, 1, C)."""
    sixteenths: Tensor
    """What is added to each quarter's four quarters (C/8 channels each): (B, 4S, C/2), or SAM 1 (1, 1, C/2)."""
    positions: Tensor
    """(1, S, C): where each cell lies."""
    shared: SharedCells | None = None
    """What spares prompts without a mask their own copies of the cells, on a CPU."""
    blank: Sequence[Tensor] | None = None
    """What spares drawn clicks the fuser's work where they draw nothing: under a prompt that draws nowhere, what goes into the
    fuser, and comes out of each of its blocks, (1, C, h, w)."""

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w): rows and columns of cells."""
        height, width = self.features.embedding.shape[2:]
        return height, width


class Decoded(NamedTuple):
    """Prompts decoded up to the scores: masks are drawn of it only where they are wanted."""

    mask_tokens: Tensor
    """(N, 4, C)."""
    cells: Tensor | Mixtures
    """(N, S, C), or what stands for them."""
    scores: Tensor
    """(N, 4): the predicted IoU of each mask."""
    object_score: Tensor | None
    """(N, 1) logit that there is an object at all (SAM 2)."""


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

    def only(self, which: Tensor) -> Masks:
        """Some candidates (K',) of each prompt."""
        logits, scores, tokens = (x.index_select(1, which) for x in (self.logits, self.scores, self.tokens))
        return Masks(logits, scores, tokens, self.object_score)

    def with_single(self) -> Masks:
        """All four masks of each prompt -> three candidates: of the single one, and the one that is most like it, the one with
        the higher score. So the highest score of all four is always among them."""
        single, three = (self.logits.flatten(2) > 0).split((1, MASK_TOKENS - 1), dim=1)
        both, either = (x.sum(2, dtype=torch.float32) for x in (single & three, single | three))
        alike = both / either.clamp(min=1)  # (N, 3)
        places = torch.arange(MASK_TOKENS - 1, device=alike.device)
        rivals = places == alike.argmax(1)[:, None]
        which = torch.where(rivals & (self.scores[:, :1] >= self.scores[:, 1:]), 0, 1 + places)  # (N, 3)
        rows = torch.arange(len(which), device=alike.device)[:, None]
        return Masks(self.logits[rows, which], self.scores[rows, which], self.tokens[rows, which], self.object_score)

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
    border_depth: int = 0
    """ConvNeXt blocks over the cells' quarters, which draw borders; none in the published models. New, they change nothing, so
    that a network can be given them later."""
    single_among_three: bool = False
    """Whether the mask for clear prompts takes the place of that candidate of an ambiguous one that is most like it, if it has
    the higher score; not in the published models."""
    box_again: bool = False
    """Whether the one answer to a box goes in again as a rough mask, with its prompt, before it is given; not in the published
    models."""


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
        if config.border_depth:
            self.border_fuser = Fuser(width // 4, config.border_depth, layer_scale=0.0)
        if config.high_res:
            self.conv_s0 = nn.Conv2d(width, width // 8, 1)
            self.conv_s1 = nn.Conv2d(width, width // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, width, width // 8, 3) for _ in range(MASK_TOKENS))
        self.iou_prediction_head = MLP(width, config.iou_head_width, MASK_TOKENS, config.iou_head_depth)
        self.compiled: CompiledDecoder | None = None

    @property
    def upscaling(self) -> Upscaling:
        return Upscaling(
            *cast("tuple[nn.ConvTranspose2d, LayerNorm2d, nn.GELU, nn.ConvTranspose2d, nn.GELU]", tuple(self.output_upscaling))
        )

    def image_side(self, features: ImageFeatures, dense: Tensor, positions: Tensor) -> ImageSide:
        """The work that belongs to the image: `dense` is (1|N, C, 1|h, 1|w), the mask prompt or its absence."""
        tokens = self.tokens_of(features.embedding, dense, positions)
        return ImageSide(features, tokens, *self.finer_parts(features), positions)

    def share(self, image: ImageSide) -> ImageSide:
        """The same, with what is common to prompts without a mask."""
        assert image.tokens is not None, "prompts that are drawn share nothing"
        growth = linear(self.upscaling.grow1)
        return image._replace(shared=shared_cells(self.transformer, image.tokens, growth, image.quarters[0]))

    def finer_parts(self, features: ImageFeatures) -> tuple[Tensor, Tensor]:
        """`quarters` and `sixteenths` of an image's side: the part that no prompt changes."""
        biases = bias_of(self.upscaling.grow1), bias_of(self.upscaling.grow2)
        if not self.config.high_res:
            quarters, sixteenths = (bias.repeat(4).view(1, 1, -1) for bias in biases)
            return quarters, sixteenths
        fine, middle = features.high_res
        quarters = (to_parts(middle, 1) + biases[0]).unflatten(1, (-1, 4)).flatten(2)
        return quarters, (to_parts(fine, 2) + biases[1]).unflatten(1, (-1, 4)).flatten(2)

    def blank(self, image: ImageSide, dense: Tensor) -> ImageSide:
        """The same, for many drawn clicks: `dense` (1, C, h, w) is of a prompt that draws nothing."""
        return image._replace(blank=self.prompt_fuser.steps(in_fastest_layout(image.features.embedding + dense)))

    def tokens_of(self, embedding: Tensor, dense: Tensor, positions: Tensor) -> ImageTokens:
        """The part of it that a dense prompt changes."""
        x = embedding + dense
        if self.config.fuser_depth:
            x = in_fastest_layout(x)
            one_by_one = infers_on_cpu(x)
            x = torch.cat([self.prompt_fuser(one) for one in x.split(1)]) if one_by_one else self.prompt_fuser(x)
        return self.transformer.image_tokens(x, positions)

    def tokens_where_drawn(self, image: ImageSide, drawn: Sequence[tuple[Part, Tensor]]) -> ImageTokens:
        """The same for prompts whose dense part (1, C, rows, columns) differs from a blank prompt's only there."""
        assert image.blank is not None, "blank makes it"
        maps = [self._where_drawn(image.features.embedding, image.blank, *one) for one in drawn]
        return self.transformer.image_tokens(torch.cat(maps), image.positions)

    def _where_drawn(self, embedding: Tensor, blank: Sequence[Tensor], part: Part, dense: Tensor) -> Tensor:
        x = blank[0].clone()
        part.of(x).copy_(part.of(embedding) + dense)
        if part.area > MOSTLY * x[0, 0].numel():
            return self.prompt_fuser(x)
        return self.prompt_fuser.after_change(blank, x, part)

    def decode(self, image: ImageSide, sparse: Tensor) -> Decoded:
        """(N, T, C) prompt tokens -> scores, and what masks are drawn of."""
        own = [self.iou_token.weight, self.mask_tokens.weight]
        if self.config.object_score:
            own.insert(0, self.obj_score_token.weight)
        own_tokens = torch.cat(own)  # (5|6, C)
        tokens = torch.cat([own_tokens.expand(sparse.shape[0], -1, -1), sparse], dim=1)  # (N, 5|6 + T, C)
        assert image.tokens is not None, "a drawn prompt has its own"
        if self._graphs is not None:
            answer = self._graphs.decode(tokens, image.tokens)
            mask_tokens, cells, scores = answer[:3]
            return Decoded(mask_tokens, cells, scores, answer[3] if self.config.object_score else None)
        shared = None if torch.is_grad_enabled() else image.shared  # its steps work in place
        if shared is not None and folding.pays(self.transformer.final_attn_token_to_image, tokens):
            return self.judged(*transform(self.transformer, tokens, image.tokens, shared, wanted=self.own_count))
        return self.judged(*self.transformer(tokens, image.tokens, wanted=self.own_count))

    @property
    def _graphs(self) -> CompiledDecoder | None:
        """The compiled steps, but not within a larger step that is being compiled."""
        return None if torch.compiler.is_compiling() else self.compiled

    @property
    def own_count(self) -> int:
        """How many tokens every prompt has: the scores', the masks', and SAM 2's of presence."""
        return 1 + MASK_TOKENS + self.config.object_score

    def judged(self, tokens: Tensor, cells: Tensor | Mixtures) -> Decoded:
        """Own tokens (N, 5|6, C) that have seen the image, and cells -> scores."""
        object_score = None
        if self.config.object_score:
            object_score = self.pred_obj_score_head(tokens[:, 0])
            tokens = tokens[:, 1:]
        scores = self.iou_prediction_head(tokens[:, 0])
        if self.config.iou_sigmoid:
            scores = scores.sigmoid()
        return Decoded(mask_tokens=tokens[:, 1:], cells=cells, scores=scores, object_score=object_score)

    def draw(self, image: ImageSide, decoded: Decoded, which: Sequence[int]) -> Tensor:
        """The logits of some of the four masks: (N, len(which), 4h, 4w)."""
        return self._put_together(image, self._parts(image, decoded, which))

    def masks_of(self, image: ImageSide, decoded: Decoded, which: range) -> Masks:
        """The same with their scores."""
        return self._pack(decoded, self.draw(image, decoded, which), which)

    def draw_wanted(self, image: ImageSide, decoded: Decoded, wanted: Sequence[Sequence[int]]) -> Tensor:
        """Of each prompt on one image some of the four masks, on a CPU: the logits of all of them (M, 4h, 4w)."""
        rows = self.mask_rows(decoded.mask_tokens)
        parts = [rows.new_zeros(0, 16 * image.positions.shape[1])]
        parts += [self._parts_of_one(image, decoded.cells, n, rows[n, which]) for n, which in enumerate(wanted) if which]
        return self._put_together(image, torch.cat(parts)[None])[0]

    def _put_together(self, image: ImageSide, parts: Tensor) -> Tensor:
        """(N, K, 16S), each cell's sixteen parts one after another -> (N, K, 4h, 4w)."""
        _, _, h, w = image.features.embedding.shape
        if infers_on_cpu(parts):  # in training they may be bfloat16, which have no pairs
            return masks_from_parts(parts, (h, w))
        return from_parts(parts.transpose(1, 2), (h, w), 2)

    def mask_rows(self, tokens: Tensor, which: Sequence[int] = range(MASK_TOKENS)) -> Tensor:
        """The masks' tokens (N, 4, C) -> what the finest cells are multiplied with for some of them (N, K, C/8)."""
        return torch.stack([self.output_hypernetworks_mlps[k](tokens[:, k]) for k in which], dim=1)

    def _parts(self, image: ImageSide, decoded: Decoded, which: Sequence[int]) -> Tensor:
        if self._graphs is not None:
            return self._graphs.parts(image, decoded)[:, list(which)]
        rows = self.mask_rows(decoded.mask_tokens, which)
        if infers_on_cpu(rows) and len(image.features.embedding) == 1:
            return torch.stack([self._parts_of_one(image, decoded.cells, n, one) for n, one in enumerate(rows)])
        assert isinstance(decoded.cells, Tensor), "mixtures are for prompts of one image, on a CPU"
        return self.parts_of_all(decoded.cells, image.quarters, image.sixteenths, rows)

    def parts_of_all(self, cells: Tensor, quarters: Tensor, sixteenths: Tensor, masks: Tensor) -> Tensor:
        """All prompts' masks together: cells (N, S, C), an image's sides, and the masks' rows (N, K, C/8) -> (N, K, 16S)."""
        grown = self.with_neighbours(self.upscaling.quarters(cells, quarters))
        return self.upscaling.parts(grown, sixteenths, masks)

    def with_neighbours(self, quarters: Tensor) -> Tensor:
        """Quarters of all cells (N, S, C) of a square -> the same, after each has seen those around it."""
        if not self.config.border_depth:
            return quarters
        side = isqrt(quarters.shape[1])
        maps = self.border_fuser(spread(quarters.unflatten(2, (4, -1)).flatten(1, 2), (side, side), 1))
        return to_parts(maps, 1).reshape(quarters.shape)

    def _parts_of_one(self, image: ImageSide, cells: Tensor | Mixtures, prompt: int, masks: Tensor) -> Tensor:
        """One prompt's masks on a CPU, a few cells at a time: (K, C/8) -> (K, 16S)."""
        layers = self.upscaling
        if isinstance(cells, Tensor):
            quarters = layers.quarters_of_one(cells[prompt], image.quarters[0], CELLS)
        else:
            assert image.shared is not None, "its cells are mixtures"
            quarters = cells.quarters(image.shared, prompt, CELLS)
        if self.config.border_depth:
            quarters = self.with_neighbours(torch.cat(list(quarters))[None])[0].split(CELLS)
        more = image.sixteenths[0].expand(4 * image.positions.shape[1], -1)
        return layers.parts_of_one(quarters, more.split(4 * CELLS), masks)

    def masks(self, image: ImageSide, decoded: Decoded, multimask: bool) -> Masks:
        """Three candidates, or the one mask that the family gives for a clear prompt."""
        many = range(1, MASK_TOKENS)
        if multimask:
            if self.config.single_among_three:
                return self.masks_of(image, decoded, range(MASK_TOKENS)).with_single()
            return self.masks_of(image, decoded, many)
        if not self.config.stability_fallback or self.training:
            return self.masks_of(image, decoded, range(1))
        parts = self._parts(image, decoded, range(MASK_TOKENS))
        one = self._pack(decoded, self._put_together(image, parts[:, :1]), range(1))
        stable = stability(parts[:, :1], offset=0.05) >= 0.98  # (N,): in whichever order the parts lie
        if stable.device.type == "cpu" and bool(stable.all()):  # elsewhere to ask is to wait
            return one
        candidates = self._pack(decoded, self._put_together(image, parts[:, 1:]), many)
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


def in_fastest_layout(x: Tensor) -> Tensor:
    """And so to the last bit the same for a picture that was saved and read."""
    return x.contiguous(memory_format=torch.channels_last)


def stability(logits: Tensor, offset: float) -> Tensor:
    """How little a mask changes as its threshold moves from -offset to +offset: (..., H, W) -> (...) in [0, 1].

    Source: https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam/mask_decoder.py (_get_stability_scores)
    """
    inner = (logits > offset).flatten(-2).sum(-1)
    outer = (logits > -offset).flatten(-2).sum(-1)
    return torch.where(outer > 0, inner.float() / outer.float(), 1.0)
