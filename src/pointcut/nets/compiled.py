"""A network's steps as compiled graphs (`load(..., compiled=True)`), for processors that wait for their next small step.

PyTorch's compiler joins a step's many kernels. On CUDA a compiled step is recorded besides, once for each shape of its inputs,
and played back as one graph: nothing is launched kernel by kernel, and nothing waits for the host. For that prompts are padded
to a few shapes; nothing attends to what is padding, so answers stay the same but for the order of summation.

Recorded here rather than by `torch.compile(mode="reduce-overhead")`, whose graphs belong to the thread that recorded them; a
server has several. The recording has not run yet for want of a GPU (docs/benchmarks.md); the rest is tested on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .transformer import ImageTokens

if TYPE_CHECKING:
    from .decoder import Decoded, ImageSide, MaskDecoder

Outputs = TypeVar("Outputs", bound="Tensor | tuple[Tensor, ...]")

PROMPTS = 64
"""That are answered together at most."""

TOKENS = 8
"""Of a prompt, with the decoder's own, at least: as many as one click has."""

SHAPES = 256
"""Compilations of a step before PyTorch refuses more, those of all models in the process counted; its own limit is eight."""

WARM_UP = 3
"""Runs before a recording, as https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs asks for."""


class Compiled(Generic[Outputs]):
    """A step that takes and gives tensors, compiled for each shape of its inputs. Safe to use from several threads."""

    def __init__(self, step: Callable[..., Outputs], backend: str, any_length: dict[int, int] | None = None) -> None:
        """any_length: of which inputs which axis may have any length without being compiled anew."""
        self.compiled: Callable[..., Outputs] = torch.compile(step, dynamic=False, fullgraph=True, backend=backend)
        self.any_length = any_length or {}
        self.recordings: dict[tuple[object, ...], Recording[Outputs]] = {}
        self.pool: torch.cuda._POOL_HANDLE | None = None
        self.lock = Lock()

    def __call__(self, *inputs: Tensor) -> Outputs:
        if inputs[0].device.type != "cuda":
            return self.run(*inputs)
        key = tuple((x.shape, x.dtype) for x in inputs)
        with self.lock, torch.cuda.device(inputs[0].device):
            if key not in self.recordings:
                self.pool = self.pool or torch.cuda.graph_pool_handle()
                self.recordings[key] = Recording(self.run, inputs, self.pool)
            return self.recordings[key].play(inputs)

    def run(self, *inputs: Tensor) -> Outputs:
        config = torch._dynamo.config  # each thread has its own
        config.cache_size_limit = max(SHAPES, config.cache_size_limit)  # since PyTorch 2.7 another name for recompile_limit
        for place, axis in self.any_length.items():
            torch._dynamo.mark_dynamic(inputs[place], axis)
        return self.compiled(*inputs)


class Recording(Generic[Outputs]):
    """A step as a CUDA graph: it reads its inputs and leaves its outputs in the same places every time.

    Recordings of one step share a pool of memory: they are played one at a time, and what one leaves is copied before the next.
    """

    def __init__(self, step: Callable[..., Outputs], inputs: Sequence[Tensor], pool: torch.cuda._POOL_HANDLE) -> None:
        self.inputs = [x.clone() for x in inputs]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                step(*self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):  # other threads may go on meanwhile
            self.outputs = step(*self.inputs)

    def play(self, inputs: Sequence[Tensor]) -> Outputs:
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.graph.replay()
        return each(torch.clone, self.outputs)  # the next run writes over them


def each(change: Callable[[Tensor], Tensor], outputs: Outputs) -> Outputs:
    """A change of a step's output, or of each of them."""
    changed = change(outputs) if isinstance(outputs, Tensor) else tuple(map(change, outputs))
    return cast("Outputs", changed)


def compiled_encoder(forward: Callable[[Tensor], Outputs], backend: str) -> Callable[[Tensor], Outputs]:
    """An image encoder's `forward`, (B, 3, S, S) -> its maps, for batches of one, two, four ...; others are filled up."""
    step = Compiled(forward, backend)

    def encode(pixels: Tensor) -> Outputs:
        count = len(pixels)
        return each(lambda x: x[:count], step(filled(pixels, room(count))))

    return encode


class CompiledDecoder:
    """The two steps that answer prompts: up to the scores, and from there to masks."""

    def __init__(self, decoder: MaskDecoder, backend: str) -> None:
        def answer(tokens: Tensor, real: Tensor, *image: Tensor) -> tuple[Tensor, ...]:
            decoded = decoder.judged(*decoder.transformer(tokens, ImageTokens(*image), decoder.own_count, real))
            return tuple(x for x in decoded if isinstance(x, Tensor))

        def draw(cells: Tensor, mask_tokens: Tensor, quarters: Tensor, sixteenths: Tensor) -> Tensor:
            return decoder.parts_of_all(cells, quarters, sixteenths, decoder.mask_rows(mask_tokens))

        self.answer, self.draw = Compiled(answer, backend), Compiled(draw, backend)

    def decode(self, tokens: Tensor, image: ImageTokens) -> tuple[Tensor, ...]:
        """(N, T, C) -> the fields of `Decoded`, as far as there are such."""
        count, own = tokens.shape[:2]
        wide = F.pad(tokens, (0, 0, 0, max(TOKENS, room(own)) - own))
        real = torch.arange(wide.shape[1], device=tokens.device) < own
        given = shared_or_filled(image, count)
        return tuple(x[:count] for x in self.answer(filled(wide, room(count)), real, *given))

    def parts(self, image: ImageSide, decoded: Decoded) -> Tensor:
        """All four masks: (N, 4, 16S)."""
        assert isinstance(decoded.cells, Tensor)
        count = len(decoded.cells)
        given = (filled(x, room(count)) for x in (decoded.cells, decoded.mask_tokens))
        more = shared_or_filled((image.quarters, image.sixteenths), count)
        return self.draw(*given, *more)[:count]


def room(count: int) -> int:
    """The power of two that holds so many."""
    return 1 << (count - 1).bit_length()


def filled(x: Tensor, rows: int) -> Tensor:
    """(N, ...) -> (rows, ...), zeros behind."""
    return F.pad(x, (0,) * (2 * x.ndim - 1) + (rows - len(x),))


def shared_or_filled(parts: Iterable[Tensor], count: int) -> list[Tensor]:
    """An image's parts (1|N, ...) beside N prompts: those that all prompts share stay as they are."""
    return [x if len(x) == 1 else filled(x, room(count)) for x in parts]
