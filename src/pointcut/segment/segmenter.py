"""A loaded model: images in, `EncodedImage`s out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..images import MAX_PIXELS, Frame, ImageSource, open_image
from ..nets.decoder import ImageFeatures
from ..nets.promptable import Promptable
from ..nets.sam1 import Sam1
from ..weights.load import load_network
from .devices import Precision, choose_device, encoding_precision
from .pixels import to_square
from .session import EncodedImage, load_encoded, saved_model

BATCH = 8
"""Images that `encode_batch` sends through the network together at most."""


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network ready for inference. Safe to use from several threads: encoding and prompting change nothing in it."""

    net: Promptable
    name: str
    device: torch.device
    precision: Precision = "float32"
    """Of encoding; masks are decoded in float32 always."""

    def frame(self, image: np.ndarray) -> Frame:
        """How a picture lies in this model's square."""
        return Frame(image.shape[0], image.shape[1], self.net.input_size, "pad" if isinstance(self.net, Sam1) else "squash")

    def encode(self, image: ImageSource, *, max_pixels: int = MAX_PIXELS) -> EncodedImage:
        """Encodes a picture: a path, bytes, file object, PIL image, or uint8 array (H, W[, 3|4]) in RGB order.

        Raises UnreadableImage or ImageTooLarge.
        """
        return self._encode([open_image(image, max_pixels=max_pixels)])[0]

    def encode_batch(self, images: Iterable[ImageSource], *, max_pixels: int = MAX_PIXELS) -> list[EncodedImage]:
        """Encodes several pictures, of any sizes, together."""
        pictures = (open_image(image, max_pixels=max_pixels) for image in images)
        encoded: list[EncodedImage] = []
        while chunk := list(islice(pictures, BATCH)):
            encoded += self._encode(chunk)
        return encoded

    def load_encoded(self, path: str | os.PathLike[str]) -> EncodedImage:
        """Reads a file of `EncodedImage.save`. Raises InputError, or WeightsMismatch if another model wrote it."""
        return load_encoded(path, self.net, self.device)

    def _encode(self, images: Sequence[np.ndarray]) -> list[EncodedImage]:
        frames = [self.frame(image) for image in images]
        squares = torch.cat([to_square(image, frame, self.device) for image, frame in zip(images, frames, strict=True)])
        return self.encode_squares(squares, images, frames)

    def encode_squares(self, squares: Tensor, images: Sequence[np.ndarray], frames: Sequence[Frame]) -> list[EncodedImage]:
        """The tensor-level call under `encode`: normalised squares (B, 3, S, S) of pictures (H, W, 3) and their frames."""
        encoded = []
        with torch.inference_mode():
            with encoding_precision(self.device, self.precision):
                batch = self.net.encode(squares)
            for i, (image, frame) in enumerate(zip(images, frames, strict=True)):
                high_res = tuple(x[i : i + 1].float() for x in batch.high_res)
                features = ImageFeatures(batch.embedding[i : i + 1].float(), high_res)
                encoded.append(EncodedImage(image, frame, self.net.image_side(features), self.net, self.name))
        return encoded


def load(
    model: str | os.PathLike[str] = "nano", *, device: str | torch.device = "auto", precision: Precision = "float32"
) -> Segmenter:
    """Loads a model: a name (`nano`, `sam2.1-tiny`, ...), a Hub id (`facebook/sam2.1-hiera-tiny`, `...@revision`), or a local
    file or folder (Meta's .pt/.pth, safetensors in Meta's or transformers' layout).

    device: auto, cpu, cuda, cuda:N or mps. precision: how images are encoded; bfloat16 and float16 are faster where the
    hardware has them and change masks slightly.
    Raises UnknownModel, WeightsNotFound, WeightsRefused, WeightsMismatch or DeviceUnavailable.
    """
    if precision not in ("float32", "bfloat16", "float16"):
        raise InputError(f"precision must be float32, bfloat16 or float16, got {precision!r}")
    chosen = choose_device(device)
    network = load_network(model)
    return Segmenter(network.net.to(chosen), network.name, chosen, precision)


def load_encoded_image(path: str | os.PathLike[str], *, device: str | torch.device = "auto") -> EncodedImage:
    """Reads a file of `EncodedImage.save`, with the model that the file names."""
    return load(saved_model(path), device=device).load_encoded(path)
