"""SAM 2 and 2.1: the whole network on one screen; the built-in model is a row of the same table.

Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024; https://github.com/facebookresearch/sam2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from .convnet import ConvNet, ConvNetConfig
from .decoder import DecoderConfig, ImageFeatures, ImageSide, MaskDecoder
from .following import ABSENT, CompiledFollowing, Found
from .hiera import Hiera, HieraConfig
from .layers import Fuser, bilinear
from .memory import MASK_STRIDE, Memory, MemoryConfig, Recollection
from .neck import TRUNK_STRIDE, FpnNeck, ImageEncoder
from .packing import keep, narrow, pack
from .promptable import Promptable
from .prompts import PADDING, PromptConfig, PromptEncoder, Prompts
from .running import own_arithmetic


@dataclass(frozen=True)
class Sam2Config:
    """A variant of SAM 2: one row of a table."""

    trunk: HieraConfig | ConvNetConfig
    prompts: PromptConfig = PromptConfig()
    decoder: DecoderConfig = DecoderConfig()
    memory: MemoryConfig | None = MemoryConfig()
    """None: a network for images only."""
    input_size: int = 1024
    stride: int = TRUNK_STRIDE
    """Pixels of the square for each cell of the embedding. With more than the published models' 16 the image encoder sees
    finer than prompts are answered: its maps are brought to fewer cells, so that a larger square costs encoding alone."""
    fuser_depth: int = 0
    """ConvNeXt blocks over the embedding of an image; none in the published models. New, they change nothing, so that a network
    can be given them later."""

    def build(self) -> Sam2:
        return Sam2(self)


TINY_2_1 = Sam2Config(HieraConfig())
SMALL_2_1 = Sam2Config(HieraConfig(stages=(1, 2, 11, 2), global_blocks=(7, 10, 13)))
BASE_PLUS_2_1 = Sam2Config(HieraConfig(112, 2, (2, 3, 16, 3), (12, 16, 20), background=(14, 14)))
LARGE_2_1 = Sam2Config(HieraConfig(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)))

_MEMORY_2_0 = MemoryConfig(embeds_absence=False, pointer_times=False)
TINY_2_0 = replace(TINY_2_1, memory=_MEMORY_2_0)
SMALL_2_0 = replace(SMALL_2_1, memory=_MEMORY_2_0)
BASE_PLUS_2_0 = replace(BASE_PLUS_2_1, memory=_MEMORY_2_0)
LARGE_2_0 = replace(LARGE_2_1, memory=_MEMORY_2_0)

NANO = Sam2Config(
    trunk=ConvNetConfig(widths=(32, 64, 128, 256), stages=(2, 2, 3, 2), rises=(1, 2, 2)),
    prompts=PromptConfig(width=128, mask_channels=32, drawn=True),
    decoder=DecoderConfig(
        128,
        heads=4,
        mlp_width=512,
        iou_head_width=128,
        stability_fallback=False,
        fuser_depth=2,
        border_depth=2,
        single_among_three=True,
        box_again=True,
    ),
    memory=MemoryConfig(width=128, memory_width=32, attention_depth=2, mlp_width=512, looks_again=True),
    input_size=640,
    stride=20,
    fuser_depth=4,
)


class Sam2(Promptable):
    """Trunk and neck, prompt encoder, mask decoder, memory."""

    logit_limit = 32.0
    image_encoder: ImageEncoder

    def __init__(self, config: Sam2Config) -> None:
        super().__init__(
            config.input_size,
            PromptEncoder(config.prompts, config.input_size, config.stride),
            MaskDecoder(config.decoder),
        )
        self.config = config
        width = config.prompts.width
        trunk = Hiera(config.trunk) if isinstance(config.trunk, HieraConfig) else ConvNet(config.trunk)
        fuser = Fuser(width, config.fuser_depth, layer_scale=0.0)
        self.image_encoder = ImageEncoder(trunk, FpnNeck(config.trunk.widths, width), fuser, config.stride)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.memory = Memory(config.memory) if config.memory else None
        self.compiled: CompiledFollowing | None = None

    def bake(self) -> None:
        super().bake()
        self.image_encoder.trunk.bake(self.input_size)

    def settle(self, arithmetic: torch.dtype, release: Callable[[Tensor], None] = keep, *, compiler: str | None = None) -> None:
        with own_arithmetic(self.device):
            self.image_encoder.merge((self.mask_decoder.conv_s0, self.mask_decoder.conv_s1))
        super().settle(arithmetic, release, compiler=compiler)
        if self.memory is not None:
            narrow(self.memory.memory_attention, self.encoding_dtype, release)
            if compiler is None:
                pack(self.memory.memory_attention, release)
                pack(self.memory.memory_encoder, release)

    def compile_steps(self, compiler: str) -> None:
        super().compile_steps(compiler)
        if self.memory is not None:
            self.compiled = CompiledFollowing(self, compiler)

    def encode(self, pixels: Tensor) -> ImageFeatures:
        return self.unremembered(self.encode_frame(pixels))

    def unremembered(self, frame: ImageFeatures) -> ImageFeatures:
        """The features of an image, or of a video's frame about which nothing is remembered."""
        return frame._replace(embedding=frame.embedding + self.no_mem_embed.view(1, -1, 1, 1))

    def encode_frame(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, S, S) normalised pixels -> features that memory can be added to."""
        fine, middle, coarse = self.image_encoder(pixels)
        if not self.image_encoder.merged:
            fine, middle = self.mask_decoder.conv_s0(fine), self.mask_decoder.conv_s1(middle)
        return ImageFeatures(coarse, (fine, middle))

    def ready(self, frame: ImageFeatures) -> ImageSide:
        """A video's frame, ready for embeddings that something was remembered in; all objects share it."""
        return ImageSide(frame, None, *self.mask_decoder.finer_parts(frame), self.prompt_encoder.dense_positions())

    def unprompted(self) -> Prompts:
        """The prompt of a frame about which nothing is said: one point that is none."""
        return Prompts(
            torch.zeros(1, 1, 2, dtype=torch.float32, device=self.device), torch.full((1, 1), PADDING, device=self.device)
        )

    def find(self, frame: ImageSide, embedding: Tensor, prompt: Prompts, multimask: bool) -> Found:
        """One prompt, asked of each embedding (N, C, h, w) of a frame: N answers, of three candidates the best."""
        decoder, tokens = self.mask_decoder, self.prompt_encoder(prompt)
        dense = self.prompt_encoder.no_mask_embed.weight[:, :, None, None] if tokens.dense is None else tokens.dense
        cells = decoder.tokens_of(embedding, dense, frame.positions)
        side = frame._replace(features=frame.features._replace(embedding=embedding), tokens=cells)
        masks = decoder.masks(side, decoder.decode(side, tokens.sparse.expand(len(embedding), -1, -1)), multimask)
        assert masks.object_score is not None, "a network that tracks tells whether the object is there"
        rows, best = torch.arange(len(embedding), device=embedding.device), masks.scores.argmax(1)
        there = masks.object_score > 0  # (N, 1)
        logits = torch.where(there[..., None, None], masks.logits[rows, best][:, None], ABSENT)
        pointer = self.remembering.pointer(masks.tokens[rows, best], there.float())
        return Found(logits, masks.object_score, pointer, masks.scores[rows, best])

    def memorise(self, frame: ImageSide, logits: Tensor, present: Tensor, *, binary: bool) -> Tensor:
        """Masks (N, 1, 4h, 4w) and presence (N, 1) of N objects on a frame -> their memories (N, S, C_mem).

        binary: whether a mask is remembered as 0 and 1 instead of as probabilities.
        """
        mask = bilinear(logits, (self.mask_size, self.mask_size))
        mask = (mask > 0).float() if binary else mask.sigmoid()
        return self.remembering.remember(frame.features.embedding, mask, (present > 0).float())

    def follow(self, frame: ImageSide, begun: Tensor, seen: Recollection) -> tuple[Found, Tensor]:
        """N objects on a frame about which nothing is said of them, and their memories of it (N, S, C_mem).

        begun: what `Memory.begin` makes of the frame.
        """
        embedding = self.remembering.recall(begun, frame.grid, seen)
        found = self.find(frame, embedding, self.unprompted(), multimask=True)
        return found, self.memorise(frame, found.logits, found.present, binary=False)

    def follower(self, frame: ImageSide) -> Callable[[Recollection], tuple[Found, Tensor]]:
        """`follow` on one frame: what all objects share of it is computed once, or compiled with the rest."""
        if self.compiled is not None:
            return partial(self.compiled, frame)
        return partial(self.follow, frame, self.remembering.begin(frame.features.embedding))

    @property
    def mask_size(self) -> int:
        """The side of the square in which masks are remembered: `input_size` in the published models."""
        return MASK_STRIDE * self.prompt_encoder.side

    @property
    def remembering(self) -> Memory:
        assert self.memory is not None, "a network for images only"
        return self.memory
