"""Segment Anything (SAM), and MobileSAM with its smaller image encoder: the whole network on one screen.

Sources: Kirillov et al., "Segment Anything", 2023; https://github.com/facebookresearch/segment-anything;
https://github.com/ChaoningZhang/MobileSAM
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from .decoder import DecoderConfig, ImageFeatures, MaskDecoder
from .promptable import Promptable
from .prompts import PromptConfig, PromptEncoder
from .tinyvit import TinyViT, TinyViTConfig
from .vit import ViT, ViTConfig


@dataclass(frozen=True)
class Sam1Config:
    """A variant of SAM: one row of a table."""

    encoder: ViTConfig | TinyViTConfig = field(default_factory=ViTConfig)
    prompts: PromptConfig = PromptConfig(box_corners="after_points")
    decoder: DecoderConfig = DecoderConfig(high_res=False, object_score=False, iou_sigmoid=False, stability_fallback=False)
    input_size: int = 1024

    def build(self) -> Sam1:
        return Sam1(self)


VIT_B = Sam1Config(ViTConfig(768, 12, 12, (2, 5, 8, 11)))
VIT_L = Sam1Config(ViTConfig(1024, 24, 16, (5, 11, 17, 23)))
VIT_H = Sam1Config(ViTConfig(1280, 32, 16, (7, 15, 23, 31)))
MOBILE = Sam1Config(TinyViTConfig())


class Sam1(Promptable):
    """Image encoder, prompt encoder, mask decoder."""

    def __init__(self, config: Sam1Config) -> None:
        super().__init__(
            config.input_size,
            PromptEncoder(config.prompts, config.input_size),
            MaskDecoder(config.decoder),
        )
        self.config = config
        encoder, width = config.encoder, config.prompts.width
        self.image_encoder: ViT | TinyViT
        if isinstance(encoder, ViTConfig):
            self.image_encoder = ViT(encoder, width, config.input_size)
        else:
            self.image_encoder = TinyViT(encoder, width)

    def bake(self) -> None:
        super().bake()
        if isinstance(self.image_encoder, TinyViT):
            self.image_encoder.bake()

    def encode(self, pixels: Tensor) -> ImageFeatures:
        return ImageFeatures(self.image_encoder(pixels), ())
