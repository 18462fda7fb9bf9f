"""What SAM 1 and SAM 2 have in common once an image is encoded: prompts in, masks out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .compiled import PROMPTS, CompiledDecoder, compiled_encoder
from .decoder import MASK_TOKENS, ImageFeatures, ImageSide, MaskDecoder, Masks
from .int8 import Int8Linear, with_bytes
from .packing import keep, narrow, pack
from .positions import wake_sines
from .prompts import PromptEncoder, Prompts

SHARING = 16
"""Prompts without a mask that are answered together on a CPU: their tokens share weights, and each has 2 MB of its own."""

WIDE = 1024
"""From so many channels on, a prompt's few tokens pass a packed layer faster."""

OWN_CELLS = 4 << 20
"""Bytes of cells of prompts that are answered together on a CPU, if each has its own: one of SAM's, or eight of nano's."""


class Promptable(nn.Module, ABC):
    """A network that encodes an image once (`encode`, `image_side`) and answers prompts many times (`predict`)."""

    image_encoder: nn.Module
    arithmetic = torch.float32
    """How images are encoded (`settle`)."""
    parameter_count = 0
    """As loaded: packed layers have no parameters."""
    logit_limit: float | None = None
    """Low-resolution logits are clamped to plus or minus this before they are handed out (SAM 2)."""

    def __init__(self, input_size: int, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder) -> None:
        super().__init__()
        self.input_size = input_size
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder

    @property
    def device(self) -> torch.device:
        return self.prompt_encoder.no_mask_embed.weight.device

    @property
    def encoding_dtype(self) -> torch.dtype:
        """Of the pixels that `encode` takes."""
        return torch.float32 if self.arithmetic == torch.int8 else self.arithmetic

    @property
    def on_cpu(self) -> bool:
        """Whether it answers prompts on a CPU: as many at a time as its cache holds, and what they share computed once."""
        return self.device.type == "cpu" and not self.training and self.mask_decoder.compiled is None

    @abstractmethod
    def encode(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, S, S) normalised pixels -> the images' features."""

    def image_side(self, features: ImageFeatures) -> ImageSide:
        """All that prompts without a mask need of one image (B = 1), computed once."""
        places = self.prompt_encoder.dense_positions()
        if self.prompt_encoder.config.drawn:
            return ImageSide(features, None, *self.mask_decoder.finer_parts(features), places)
        nothing = self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        side = self.mask_decoder.image_side(features, nothing, places)
        return self.mask_decoder.share(side) if self.on_cpu else side

    def predict(self, image: ImageSide, prompts: Prompts, multimask: bool) -> Masks:
        """N prompts on one image, or (in training) on N images -> their masks: three each, or one."""
        together = self.together(image, prompts)
        if prompts.rows > together:
            return Masks.joined([self.predict(image, some, multimask) for some in prompts.split(together)])
        asked, sparse = self.prompted(image, prompts)
        masks = self.mask_decoder.masks(asked, self.mask_decoder.decode(asked, sparse), multimask)
        first_look = prompts.masks is None and not multimask
        if first_look and prompts.boxes is not None and self.mask_decoder.config.box_again:
            return self.refine(image, prompts, masks)
        return masks

    def refine(self, image: ImageSide, prompts: Prompts, masks: Masks) -> Masks:
        """Looks again: each mask (N, K) goes in as a rough one, with the prompt that it answers, and comes back as one."""
        rough = self.limited(masks.logits).flatten(0, 1)[:, None]
        count = masks.scores.shape[1]
        again = self.predict(image, prompts.repeated(count)._replace(masks=rough), multimask=False)
        logits, scores, tokens = (x.view_as(old) for x, old in zip(again[:3], masks[:3], strict=True))
        return Masks(logits, scores, tokens, masks.object_score)

    def limited(self, logits: Tensor) -> Tensor:
        """Low-resolution logits as they are handed out, and fed back."""
        return logits if self.logit_limit is None else logits.clamp(-self.logit_limit, self.logit_limit)

    def for_many(self, image: ImageSide) -> ImageSide:
        """The same image, with what pays for more than a few prompts."""
        if not self.on_cpu or not self.mask_decoder.config.fuser_depth:
            return image
        return self.mask_decoder.blank(image, self.prompt_encoder.blank())

    def together(self, image: ImageSide, prompts: Prompts) -> int:
        """How many of them are answered at a time: on a CPU so few that what they need stays in its cache."""
        if self.mask_decoder.compiled is not None:
            return PROMPTS
        if not self.on_cpu:
            return prompts.rows
        if image.shared is not None and prompts.masks is None:
            return SHARING
        cells = image.positions[0].numel() * image.positions.element_size()  # of each prompt its own
        return max(1, OWN_CELLS // cells)

    def prompted(self, image: ImageSide, prompts: Prompts) -> tuple[ImageSide, Tensor]:
        """The image's side with the prompts' dense part in it, and their tokens (N, T, C): what `decode` takes."""
        if image.blank is not None and prompts.clicks_alone:
            side = self.mask_decoder.tokens_where_drawn(image, self.prompt_encoder.dense_where_drawn(prompts))
            return image._replace(tokens=side), self.prompt_encoder.encode_sparse(prompts)
        tokens = self.prompt_encoder(prompts)
        if tokens.dense is not None:
            side = self.mask_decoder.tokens_of(image.features.embedding, tokens.dense, image.positions)
            image = image._replace(tokens=side, shared=None)
        return image, tokens.sparse

    def best_candidate(self, image: ImageSide, prompt: Prompts, ambiguous: bool) -> Masks:
        """One prompt (N = 1) -> its mask, or of an ambiguous prompt's three candidates only the one with the highest score."""
        image, sparse = self.prompted(image, prompt)
        decoded = self.mask_decoder.decode(image, sparse)
        if ambiguous and not self.on_cpu:  # to ask which is best is to wait; what the others cost is little
            three = self.mask_decoder.masks(image, decoded, multimask=True)
            return three.only(three.scores[0].argmax()[None])
        first = 0 if self.mask_decoder.config.single_among_three else 1
        which = first + int(decoded.scores[0, first:].argmax()) if ambiguous else 0
        return self.mask_decoder.masks_of(image, decoded, range(which, which + 1))

    def good_candidates(self, image: ImageSide, prompts: Prompts, limit: float) -> tuple[Tensor, Tensor, Tensor]:
        """Of the three candidates of each of N prompts those with a score above `limit`: the others are never drawn.

        Returns logits (M, 4h, 4w), scores (M,), and which prompt each answers (M,).
        """
        together = self.together(image, prompts)
        if prompts.rows > together:
            parts = [self.good_candidates(image, some, limit) for some in prompts.split(together)]
            firsts = range(0, prompts.rows, together)
            logits, scores, _ = (torch.cat(column) for column in zip(*parts, strict=True))
            return logits, scores, torch.cat([first + part[2] for first, part in zip(firsts, parts, strict=True)])
        image, sparse = self.prompted(image, prompts)
        decoded = self.mask_decoder.decode(image, sparse)
        good = decoded.scores[:, 1:] > limit  # (N, 3)
        if not self.on_cpu:  # to ask which are good is to wait; what they cost is little
            drawn = self.mask_decoder.draw(image, decoded, range(1, MASK_TOKENS))
            prompt, which = good.nonzero(as_tuple=True)
            return drawn[prompt, which], decoded.scores[:, 1:][prompt, which], prompt
        wanted = [[k for k, passes in enumerate(of_three, 1) if passes] for of_three in good.tolist()]
        logits = self.mask_decoder.draw_wanted(image, decoded, wanted)
        return logits, decoded.scores[:, 1:][good], good.nonzero()[:, 0]

    def bake(self) -> None:
        """Prepares for inference: evaluation mode and no gradients; families add what they can compute beforehand."""
        self.eval().requires_grad_(False)
        self.parameter_count = sum(parameter.numel() for parameter in self.parameters())
        wake_sines()

    def settle(self, arithmetic: torch.dtype, release: Callable[[Tensor], None] = keep, *, compiler: str | None = None) -> None:
        """The last step before inference: how images are encoded, with weights packed for the processor.

        arithmetic: a floating type; or int8, which stands for float32 where wide linear layers multiply bytes (int8.py).
        Prompts are always answered in float32. `release` is called with each weight that another took the place of.
        compiler: PyTorch's name of one, to make graphs of the steps (compiled.py) instead: it packs weights itself.
        """
        self.arithmetic = arithmetic
        narrow(self.image_encoder, self.encoding_dtype, release)
        if compiler is not None:
            self.compile_steps(compiler)
            return
        if arithmetic == torch.int8:
            pack(self.image_encoder, release, with_bytes)
            if not any(isinstance(layer, Int8Linear) for layer in self.image_encoder.modules()):
                self.arithmetic = torch.float32  # none was wide enough
        else:
            pack(self.image_encoder, release)
        if self.mask_decoder.config.fuser_depth:
            pack(self.mask_decoder.prompt_fuser, release)
        if self.mask_decoder.config.border_depth:
            pack(self.mask_decoder.border_fuser, release)
        if self.mask_decoder.config.mlp_width >= WIDE:
            for block in self.mask_decoder.transformer.blocks:
                pack(block.mlp, release)

    def compile_steps(self, compiler: str) -> None:
        """What `settle` does instead of packing."""
        self.image_encoder.forward = compiled_encoder(self.image_encoder.forward, compiler)
        self.mask_decoder.compiled = CompiledDecoder(self.mask_decoder, compiler)
