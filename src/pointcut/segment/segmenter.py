"""A loaded model: images in, `EncodedImage`s out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from ..ahead import ahead
from ..automatic.config import AutomaticConfig
from ..images import MAX_PIXELS, ImageSource, Reading
from ..nets.promptable import Promptable
from ..reading import read_picture
from ..segments import Segments
from ..video.frames import FrameSource
from ..video.tracker import Tracker
from ..weights.load import load_network
from ..weights.specs import FAST_ENOUGH, Precision
from .devices import MappedWeights, arithmetic, choose_device, keep_forks_going, keep_freed_memory, require_compiler
from .session import EncodedImage, Encoder, load_encoded, saved_model

BATCH = 8
"""Images that `encode_batch` sends through the network together at most."""


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network ready for inference. Safe to use from several threads: encoding and prompting change nothing in it."""

    encoder: Encoder

    @property
    def net(self) -> Promptable:
        return self.encoder.net

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def device(self) -> torch.device:
        return self.net.device

    @property
    def arithmetic(self) -> str:
        """How images are encoded: float32, bfloat16, float16, or int8 (in layers where that pays); depends on the device."""
        return str(self.net.arithmetic).removeprefix("torch.")

    def __repr__(self) -> str:
        return f"<Segmenter: {self.name} on {self.device}, {self.arithmetic}>"

    def encode(self, image: ImageSource, *, max_pixels: int = MAX_PIXELS, long_side: int | None = None) -> EncodedImage:
        """Encodes a picture: a path, bytes, file object, PIL image, or uint8 array (H, W[, 3|4]) in RGB order.

        long_side: the network sees the picture no larger than this; prompts and masks stay in the picture's own pixels.
        Raises UnreadableImage, ImageTooLarge, or MissingExtra for kinds of files that need one.
        """
        return self.encoder.encode([pixels_of(image, max_pixels)], long_side)[0]

    def encode_batch(self, images: Iterable[ImageSource], *, max_pixels: int = MAX_PIXELS) -> list[EncodedImage]:
        """Encodes several pictures, of any sizes, together. All stay in memory; for many ask `encode_each`."""
        pictures = ahead(lambda image: pixels_of(image, max_pixels), images, BATCH)
        encoded: list[EncodedImage] = []
        while chunk := list(islice(pictures, BATCH)):
            encoded += self.encoder.encode(chunk)
        return encoded

    def encode_each(self, images: Iterable[ImageSource], *, max_pixels: int = MAX_PIXELS) -> Iterator[EncodedImage]:
        """Encodes one picture after another, and reads the next ones meanwhile. Raises as `encode` does."""
        for picture in ahead(lambda image: pixels_of(image, max_pixels), images):
            yield self.encoder.encode([picture])[0]

    def segment_everything(
        self, images: Iterable[ImageSource], config: AutomaticConfig | None = None, *, max_pixels: int = MAX_PIXELS
    ) -> Iterator[Segments]:
        """Automatic masks of one picture after another (see `EncodedImage.segment_everything`)."""
        for photo in self.encode_each(images, max_pixels=max_pixels):
            yield photo.segment_everything(config)

    def track(self, frames: FrameSource) -> Tracker:
        """Opens a video (a file, a folder of pictures, arrays, a generator) to follow objects through it.

        Raises ModelError if the weights hold no memory, InputError if the video cannot be read.
        """
        return Tracker(self.net, self.name, frames)

    def load_encoded(self, path: str | os.PathLike[str]) -> EncodedImage:
        """Reads a file of `EncodedImage.save`. Raises InputError, or WeightsMismatch if another model wrote it."""
        return load_encoded(path, self.encoder)


def pixels_of(image: ImageSource, max_pixels: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of whatever holds a picture."""
    return read_picture(image, Reading(max_pixels=max_pixels)).pixels


def load(
    model: str | os.PathLike[str] = "nano",
    *,
    device: str | torch.device = "auto",
    precision: Precision = "exact",
    side: int | None = None,
    compiled: bool = False,
) -> Segmenter:
    """Loads a model: a name (`nano`, `sam2.1-tiny`, ...), a Hub id (`facebook/sam2.1-hiera-tiny`, `...@revision`), or a local
    file or folder (Meta's .pt/.pth, safetensors in Meta's or transformers' layout).

    device: auto, cpu, cuda, cuda:N or mps.
    precision: `exact` (the reference's float32), `fast` (images are encoded in what the device is faster in: bfloat16, float16,
    or, on a CPU with VNNI but no bfloat16, int8 where layers are wide; masks change slightly, `pointcut bench` says how much),
    or `auto` (`fast` where that was measured to keep the mean IoU of masks at 0.99 or more). On a Linux CPU the process is told
    to keep freed memory (`keep_freed_memory`).
    side: of the model's square in pixels, where it is to differ from what the model was trained on: a smaller one is faster
    and less exact (docs/batch.md says by how much). Not for SAM 1, whose weights belong to one side.
    compiled: for long work on a GPU: PyTorch's compiler makes graphs of the network's steps, which takes a minute at the first
    picture and at the first prompt of each size; masks are the same but for rounding. It needs a C++ compiler, on CUDA Triton.
    Raises UnknownModel, WeightsNotFound, WeightsRefused, WeightsMismatch, DeviceUnavailable, InputError for the side, or
    MissingExtra where there is no compiler.
    """
    chosen = choose_device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
        keep_forks_going()
    if compiled:
        require_compiler(chosen)
    network = load_network(model, side)
    net = network.net.to(chosen)
    encoded_in = arithmetic(chosen, precision, auto_is_fast=network.name in FAST_ENOUGH)
    if compiled and encoded_in == torch.int8:
        encoded_in = torch.float32  # the compiler takes such layers only from graphs of its own making
    net.settle(encoded_in, MappedWeights().release, compiler="inductor" if compiled else None)
    return Segmenter(Encoder(net, network.name))


def load_encoded_image(path: str | os.PathLike[str], *, device: str | torch.device = "auto") -> EncodedImage:
    """Reads a file of `EncodedImage.save`, with the model that the file names."""
    return load(saved_model(path), device=device).load_encoded(path)
