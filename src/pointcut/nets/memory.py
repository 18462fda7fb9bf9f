"""SAM 2's memory: how a mask of one frame is remembered and how the next frame attends to it.

Sources: SAM 2 paper, section 4 and appendix D;
https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/memory_attention.py and memory_encoder.py

Letters: B objects, S cells of the frame, M cells of memory (and object pointers behind them), C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLP, Attention, Fuser, LayerNorm2d, attend, by_rows
from .positions import axial_rotations, rotate, sine_grid, sine_times
from .processor import infers_on_cpu, mkl_is_slow, product
from .running import as_tensor, upload

MASK_SCALE, MASK_SHIFT = 20.0, -10.0
"""What is remembered of a mask lies between -10 and 10."""

MASK_STRIDE = 16
"""Pixels of a remembered mask for each cell of the embedding."""


@dataclass(frozen=True)
class MemoryConfig:
    """How a family remembers."""

    width: int = 256
    memory_width: int = 64
    slots: int = 7
    """Frames in the bank, the prompted one among them."""
    attention_depth: int = 4
    mlp_width: int = 2048
    embeds_absence: bool = True
    """SAM 2.1: a memory says when its object was not in the frame (`no_obj_embed_spatial`)."""
    pointer_times: bool = True
    """SAM 2.1: object pointers carry their distance in time, projected (`obj_ptr_tpos_proj`)."""
    looks_again: bool = False
    """Whether the answer to a click or box goes in again, as a rough mask with its prompt, before it is followed; not in the
    published models."""


class Recollection(NamedTuple):
    """What is remembered of B objects, as a frame looks at it: whole grids of cells, then the parts of object pointers."""

    memory: Tensor
    """(B, M, C_mem)."""
    places: Tensor
    """(1, M, C_mem): where each lies, in space or in time."""
    cells: Tensor
    """(M,) whole numbers: the frame's cell at the same place; S for pointers, which lie at none."""


QUERIES, KEYS = 2048, 512
"""How many cells attend to how many memories at a time on a CPU: four megabytes of scores, which stay in its cache."""


class RotaryAttention(Attention):
    """Attention of one head whose queries and keys are rotated by their place in the grid."""

    def within(self, x: Tensor, rotations: Tensor) -> Tensor:
        """A frame attends to itself: (B, S, C), `rotations` (S, d/2, 2)."""
        q, k, v = rotate(self.q_proj(x), rotations), rotate(self.k_proj(x), rotations), self.v_proj(x)
        return self.out_proj(attend(q[:, None], k[:, None], v[:, None])[:, 0])

    def recall(self, x: Tensor, rotations: Tensor, memory: Tensor, placed: Tensor, turns: Tensor) -> Tensor:
        """A frame (B, S, C), `rotations` (S, d/2, 2), attends to memories (B, M, C_mem), `turns` (M, d/2, 2).

        `placed` are the memories with what says where they lie.
        What is gathered are the memories themselves; their projection to values, four times as wide, follows:
        softmax(Q K') (M W) = (softmax(Q K') M) W, and as a row of shares adds up to one, the values' bias passes as well.
        """
        seen = gather(rotate(self.q_proj(x), rotations), rotate(self.k_proj(placed), turns), memory)
        return self.out_proj(self.v_proj(seen))


def gather(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention with values of another width than keys: (B, S, d), (B, M, d), (B, M, e) -> (B, S, e)."""
    if not infers_on_cpu(q):
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    q = q * q.shape[-1] ** -0.5
    return torch.stack([_gather(*one) for one in zip(q, k, v, strict=True)])


def _gather(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same for one object, on a CPU: (S, d), (M, d), (M, e) -> (S, e); queries are scaled already.

    In float32 a block of memories at a time, with the sums so far rescaled to the highest score so far, as in Milakov and
    Gimelshein, "Online normalizer calculation for softmax". Products in bfloat16, and those of oneDNN, are so fast that the
    rescaling costs more.
    """
    if q.dtype != torch.float32 or mkl_is_slow():
        return torch.cat([product(product(some, k.T).softmax(-1), v) for some in q.split(QUERIES // 8)])
    answers = []
    for some in q.split(QUERIES):
        highest = some.new_full((len(some), 1), -torch.inf)
        total, seen = some.new_zeros(len(some), 1), some.new_zeros(len(some), v.shape[1])
        for keys, values in zip(k.split(KEYS), v.split(KEYS), strict=True):
            scores = some @ keys.T
            higher = torch.maximum(highest, scores.amax(1, keepdim=True))
            shares, faded = scores.sub_(higher).exp_(), (highest - higher).exp_()
            total.mul_(faded).add_(shares.sum(1, keepdim=True))
            seen.mul_(faded).addmm_(shares, values)
            highest = higher
        answers.append(seen / total)
    return torch.cat(answers)


class MemoryAttentionLayer(nn.Module):
    """The frame attends to itself (`look`), then to the memory, then passes an MLP; norms come first."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = RotaryAttention(width, heads=1)
        self.cross_attn_image = RotaryAttention(width, heads=1, key_value_width=config.memory_width)
        self.linear1 = nn.Linear(width, config.mlp_width)
        self.linear2 = nn.Linear(config.mlp_width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def look(self, x: Tensor, rotations: Tensor) -> Tensor:
        return x + self.self_attn.within(self.norm1(x), rotations)

    def forward(self, x: Tensor, rotations: Tensor, memory: Tensor, placed: Tensor, turns: Tensor) -> Tensor:
        x = x + self.cross_attn_image.recall(self.norm2(x), rotations, memory, placed, turns)
        return by_rows(lambda rows: rows + self.linear2(F.relu(self.linear1(self.norm3(rows)))), x)


class MemoryAttention(nn.Module):
    """A frame's cells, conditioned on the memory."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(config) for _ in range(config.attention_depth))
        self.norm = nn.LayerNorm(config.width)

    def begin(self, cells: Tensor, positions: Tensor) -> Tensor:
        """What comes before any look at a memory: (B, S, C) cells and positions -> (B, S, C), the same for all objects."""
        return self._layers[0].look((cells + 0.1 * positions).contiguous(), self._rotations(cells)[:-1])

    def forward(self, begun: Tensor, seen: Recollection) -> Tensor:
        """(1|B, S, C) what `begin` gives -> (B, S, C)."""
        table = self._rotations(begun)
        rotations, turns, placed = table[:-1], table[seen.cells], seen.memory + seen.places
        x = begun.expand(len(seen.memory), -1, -1)
        for i, layer in enumerate(self._layers):
            if i:
                x = layer.look(x, rotations)
            x = layer(x, rotations, seen.memory, placed, turns)
        return self.norm(x)

    @property
    def _layers(self) -> list[MemoryAttentionLayer]:
        return cast("list[MemoryAttentionLayer]", list(self.layers))

    @staticmethod
    def _rotations(cells: Tensor) -> Tensor:
        side = int(cells.shape[1] ** 0.5)
        return axial_rotations(cells.shape[2], side, side, cells.device)


class MaskDownsampler(nn.Module):
    """A full-size mask (B, 1, 16h, 16w) to (B, C, h, w): four halvings, channels times four at each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(4):
            layers += [nn.Conv2d(channels, 4 * channels, 3, stride=2, padding=1), LayerNorm2d(4 * channels), nn.GELU()]
            channels *= 4
        layers.append(nn.Conv2d(channels, width, 1))
        self.encoder = nn.Sequential(*layers)

    def forward(self, mask: Tensor) -> Tensor:
        return self.encoder(mask)


class MemoryEncoder(nn.Module):
    """A frame's features and its mask to one memory."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownsampler(config.width)
        self.pix_feat_proj = nn.Conv2d(config.width, config.width, 1)
        self.fuser = Fuser(config.width, depth=2)
        self.out_proj = nn.Conv2d(config.width, config.memory_width, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(1|B, C, h, w) and (B, 1, 16h, 16w), already scaled for memory -> (B, C_mem, h, w)."""
        return self.out_proj(self.fuser(self.pix_feat_proj(features) + self.mask_downsampler(mask)))


class Memory(nn.Module):
    """The parts that a tracker needs beside the image network, as the published checkpoints hold them."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.memory_attention = MemoryAttention(config)
        self.memory_encoder = MemoryEncoder(config)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(config.slots, 1, 1, config.memory_width))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        self.mask_downsample = nn.Conv2d(1, 1, 4, stride=4)
        self.obj_ptr_proj = MLP(width, width, width, 3)
        if config.embeds_absence:
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, config.memory_width))
        if config.pointer_times:
            self.obj_ptr_tpos_proj = nn.Linear(width, config.memory_width)

    def pointer(self, token: Tensor, present: Tensor) -> Tensor:
        """A mask's token (B, C) and whether there is an object (B, 1), 0 or 1 -> the object pointer (B, C)."""
        return present * self.obj_ptr_proj(token) + (1 - present) * self.no_obj_ptr

    def remember(self, embedding: Tensor, mask: Tensor, present: Tensor) -> Tensor:
        """A frame's embedding (1|B, C, h, w), objects' masks (B, 1, 16h, 16w) in 0..1 and whether they are there (B, 1).

        Returns the memories (B, S, C_mem). It is rounded to bfloat16, as the reference stores it.
        """
        memory = self.memory_encoder(embedding, mask * MASK_SCALE + MASK_SHIFT)
        if self.config.embeds_absence:
            memory = memory + (1 - present)[..., None, None] * self.no_obj_embed_spatial[..., None, None]
        return memory.flatten(2).transpose(1, 2).to(torch.bfloat16)

    def begin(self, embedding: Tensor) -> Tensor:
        """A frame's embedding (B, C, h, w) -> what `recall` of any object begins with (B, S, C)."""
        dtype = self.memory_attention.norm.weight.dtype
        _, channels, height, width = embedding.shape
        cells = embedding.flatten(2).transpose(1, 2)
        positions = sine_grid(channels, height, width, embedding.device).flatten(1).T[None]
        return self.memory_attention.begin(cells.to(dtype), positions.to(dtype))

    def recollect(
        self,
        size: tuple[int, int],
        memories: Sequence[tuple[int, Tensor]],
        pointers: Sequence[tuple[int, Tensor]],
        most: int,
    ) -> Recollection:
        """What is remembered of B objects, side by side.

        size: h and w of the frame. memories: (slot, (B, S, C_mem)): slot 0 for prompted frames, then 1 for the frame before
        this to 6 for the sixth before. pointers: (how many frames ago, (B, C)); times are relative to `most`.
        """
        device, (channels, narrow) = self.no_obj_ptr.device, (self.config.width, self.config.memory_width)
        where = sine_grid(narrow, *size, device).flatten(1).T[None]  # (1, S, C_mem)
        slots = self.maskmem_tpos_enc[:, 0]  # (slots, 1, C_mem): the last of prompted frames, the first of the frame before...
        parts = [memory for _, memory in memories]
        places = [where + slots[slot - 1] for slot, _ in memories]
        cells = [torch.arange(where.shape[1], device=device)] * len(memories)
        if pointers:
            split = channels // narrow  # a pointer is as long as several memories are wide
            tokens = torch.stack([pointer for _, pointer in pointers], dim=1)  # (B, P, C)
            parts.append(tokens.reshape(len(tokens), -1, narrow))
            times = upload(as_tensor([ago for ago, _ in pointers], torch.float32), device) / most
            if self.config.pointer_times:
                place = self.obj_ptr_tpos_proj(sine_times(times, channels))
            else:
                place = tokens.new_zeros(len(pointers), narrow)
            places.append(place.repeat_interleave(split, dim=0)[None])
            cells.append(torch.full((split * len(pointers),), where.shape[1], device=device))
        dtype = self.memory_attention.norm.weight.dtype
        memory = torch.cat([part.to(dtype) for part in parts], dim=1)
        return Recollection(memory, torch.cat(places, dim=1).to(dtype), torch.cat(cells))

    def recall(self, begun: Tensor, size: tuple[int, int], seen: Recollection) -> Tensor:
        """A frame, conditioned on what is remembered of B objects: its embedding for each of them (B, C, h, w).

        begun: (1|B, S, C) of `begin`. size: h and w.
        """
        return self.memory_attention(begun, seen).float().transpose(1, 2).unflatten(2, size)
