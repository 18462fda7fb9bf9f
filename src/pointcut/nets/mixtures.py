"""The two-way transformer for one prompt of an image after another, without a copy of the image's cells.

A cell begins as the image's own. A block adds a mixture of a few answers to it, one for each token and head, and normalises it.
So after each block a cell is still

    scale * base + shares . rows + fixed

where `base` and `fixed` belong to the image, and a prompt brings only a number per cell (`scale`), a few rows, and how much of
them each cell has (`shares`). Whatever is projected of the cells is projected of the base, once for all prompts, and of the few
rows; and the variance that normalises a cell is a sum of products of the same parts, since they are centred beforehand. The
cells themselves, 4 MB a prompt, are never made. The result is that of the layers but for the order of summation.

A cell's shares of a head's tokens sum to one. So the last token's answer is taken as every cell's, and the others only as how
they differ from it: one row for all heads' last answers, with a share of one, and a token less for each head.

For inference on a CPU: steps work in place.

Letters: N prompts, T tokens of each, S cells, C channels, h heads, d channels of a head, I = h * d, R = h * (T - 1) + 1 rows of
one block's answers, K rows of a mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import Attention
from .transformer import ImageTokens, TwoWayTransformer

PRODUCTS = 64
"""Rows whose products with one another are computed together."""

ASIDE = 16
"""Floats between the rows of a mixture: cells of a power of two would else meet in the same few places of a cache."""


class Answers(NamedTuple):
    """What a block's tokens answer the cells."""

    others: Tensor
    """(h, T - 1, d): how they differ from the last token's."""
    last: Tensor
    """(1, I): the last token's."""

    @classmethod
    def of(cls, values: Tensor) -> Answers:
        """(h, T, d)."""
        return cls(values[:, :-1] - values[:, -1:], values[:, -1].flatten()[None])


class Met(NamedTuple):
    """What tokens meet of the image in one attention: projections of the cells, but for those of the rows."""

    moved: Tensor
    """(h, d, S): of the base."""
    fixed: Tensor
    """(h, d, S) of what is added to every cell, positions included; of values (I,)."""
    weight: Tensor
    """(I, C): the projection, for the rows."""


class Answering(NamedTuple):
    """How one block's answers become rows of a mixture."""

    out: Tensor
    """(h, d, C): the attention's output projection, centred."""
    on_base: Tensor
    """(h, d, S): its products with the base."""

    def rows(self, answers: Answers) -> Tensor:
        """(R, C)."""
        return torch.cat([(answers.others @ self.out).flatten(0, 1), answers.last @ self.out.flatten(0, 1)])

    def products(self, answers: Answers, out: Tensor) -> None:
        """Their products with the base: (R, S)."""
        torch.bmm(answers.others, self.on_base, out=out[:-1].view(*answers.others.shape[:2], out.shape[1]))
        torch.mm(answers.last, self.on_base.flatten(0, 1), out=out[-1:])


class SharedCells(NamedTuple):
    """An image's part in all of its prompts, beside its `ImageTokens`."""

    asking: tuple[Tensor, Met]
    """Queries of the cells to the tokens: in the first block (h, d, S), which belong to the image, and in the second."""
    keys: tuple[Met, Met]
    """For the tokens' look at the cells: in the second block, and the last."""
    values: tuple[Met, Met]
    answering: tuple[Answering, Answering, Answering]
    """Of the first block's answers at the end of the first block, and at the end of the second; of the second's."""
    lengths: tuple[Tensor, Tensor]
    """(S,): the squared length of the base before each block's normalisation."""
    offset: Tensor
    """(C,): what the second block normalises besides base and answers, centred."""
    offset_on_base: Tensor
    """(S,)."""
    grown: Tensor
    """(S, C): the base, upscaled by a first linear layer."""
    quarters: Tensor
    """(S, C): what is added to that."""
    growth: Tensor
    """(C, C): the layer, for the rows."""


class Mixture(NamedTuple):
    """An image's cells as one prompt has changed them."""

    scale: Tensor
    """(S,): of the base."""
    shares: Tensor
    """(K, S)."""
    rows: Tensor
    """(K, C)."""

    def quarters(self, image: SharedCells) -> Callable[[slice], Tensor]:
        """Upscaling's first layer and all that is added: some of the cells -> (1, n, C)."""
        rows = self.rows @ image.growth

        def some(cells: slice) -> Tensor:
            x = torch.addcmul(image.quarters[cells], image.grown[cells], self.scale[cells, None])
            return x.addmm_(self.shares[:, cells].T, rows)[None]

        return some


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def shared_cells(transformer: TwoWayTransformer, tokens: ImageTokens, growth: Tensor, quarters: Tensor) -> SharedCells:
    """`tokens` of one image; upscaling's first layer: its weight (C, C), and what is added to it, (S, C) or (C,)."""
    first, second = transformer.blocks
    back, look, back2 = first.cross_attn_image_to_token, second.cross_attn_token_to_image, second.cross_attn_image_to_token
    last = transformer.final_attn_token_to_image
    heads, gain, gain2 = look.heads, first.norm4.weight, second.norm4.weight
    base = centred(tokens.cells[0] + back.out_proj.bias)  # (S, C)
    out = centred(back.out_proj.weight.T)  # (I, C)
    out_later, out2 = centred(out * gain), centred(back2.out_proj.weight.T)
    offset = centred(first.norm4.bias + back2.out_proj.bias)

    def later(weight: Tensor) -> Tensor:
        """What stands for a projection of the second block's cells on the first's base."""
        return centred(weight * gain2) * gain

    of_base = [look.k_proj.weight * gain, look.v_proj.weight * gain, back2.q_proj.weight * gain]
    of_base += [later(last.k_proj.weight), later(last.v_proj.weight)]
    of_base += [out, out_later * gain, out2 * gain]
    products = (torch.cat([*of_base, offset[None] * gain]) @ base.T).split([len(w) for w in of_base] + [1])

    def split(x: Tensor) -> Tensor:
        return x.unflatten(0, (heads, -1))  # (I, ...) -> (h, d, ...)

    k, v, q, k2, v2, on_base, later_on_base, on_base2 = (split(x) for x in products[:-1])

    def placed(projection: nn.Linear, fixed: Tensor) -> Tensor:
        return split((projection.weight @ tokens.positions[0].T).add_((projection.weight @ fixed)[:, None]))

    fixed, fixed2 = first.norm4.bias, second.norm4.bias
    # The keys' bias adds the same to all scores of a token: the softmax does not see it.
    asking = placed(back2.q_proj, fixed).add_(split(back2.q_proj.bias[:, None]))
    return SharedCells(
        asking=(
            split((back.q_proj.weight @ tokens.placed[0].T).add_(back.q_proj.bias[:, None])),
            Met(q, asking, back2.q_proj.weight),
        ),
        keys=(
            Met(k, placed(look.k_proj, fixed), look.k_proj.weight),
            Met(k2, placed(last.k_proj, fixed2), last.k_proj.weight),
        ),
        values=(
            Met(v, look.v_proj(fixed), look.v_proj.weight),
            Met(v2, last.v_proj(fixed2), last.v_proj.weight),
        ),
        answering=(
            Answering(split(out), on_base),
            Answering(split(out_later), later_on_base),
            Answering(split(out2), on_base2),
        ),
        lengths=(base.square().sum(1), centred(base * gain).square().sum(1)),
        offset=offset,
        offset_on_base=products[-1][0],
        grown=base @ later(growth.T).T,
        quarters=(quarters + fixed2 @ growth).expand(len(base), -1).contiguous(),
        growth=growth,
    )


def transform(
    transformer: TwoWayTransformer, prompts: Tensor, begun: ImageTokens, image: SharedCells, wanted: int
) -> tuple[Tensor, tuple[Mixture, ...]]:
    """`TwoWayTransformer.forward`: (N, T, C) -> of each prompt its first `wanted` tokens (N, wanted, C), and the cells."""
    first, second = transformer.blocks
    each = [Prompted(image, len(image.keys[0].moved) * (prompts.shape[1] - 1) + 1) for _ in prompts]

    tokens = first.attend_to_tokens(prompts, prompts)
    look = first.cross_attn_token_to_image
    tokens = first.digest(tokens, look.attend(look.q_proj(tokens + prompts), begun.keys, begun.values))
    for one, keys, values in zip(each, *_asked(first.cross_attn_image_to_token, tokens + prompts, tokens), strict=True):
        one.first(keys, values, first.norm4)

    tokens = second.attend_to_tokens(tokens, prompts)
    seen = _look(second.cross_attn_token_to_image, tokens + prompts, image.keys[0], image.values[0], each)
    tokens = second.digest(tokens, seen)
    for one, keys, values in zip(each, *_asked(second.cross_attn_image_to_token, tokens + prompts, tokens), strict=True):
        one.second(keys, values, second.norm4)

    look = transformer.final_attn_token_to_image
    seen = _look(look, (tokens + prompts)[:, :wanted], image.keys[1], image.values[1], each)
    return transformer.norm_final_attn(tokens[:, :wanted] + seen), tuple(one.cells for one in each)


class Prompted:
    """One prompt's cells on their way through the blocks."""

    cells: Mixture

    def __init__(self, image: SharedCells, rows: int) -> None:
        """rows: R."""
        self.image = image
        self.past, self.present = slice(rows), slice(rows, 2 * rows)
        self.shares = self._room(2 * rows)  # of the first block's answers, and of the second's

    def first(self, keys: Tensor, values: Tensor, norm: nn.LayerNorm) -> None:
        """The first block's answers: keys and values of the tokens (h, T, d)."""
        image, answering = self.image, self.image.answering[0]
        self.answers = Answers.of(values)
        self._take(torch.bmm(keys, image.asking[0]), self.past)
        on_base = self._room(self.past.stop)
        answering.products(self.answers, on_base)
        begun = Mixture(torch.ones_like(image.lengths[0]), self.shares[self.past], answering.rows(self.answers))
        self.cells = _normalised(begun, on_base, image.lengths[0], norm)

    def second(self, keys: Tensor, values: Tensor, norm: nn.LayerNorm) -> None:
        """The second block's."""
        image, (_, again, new) = self.image, self.image.answering
        answers = Answers.of(values)
        self._take(_scores(keys, image.asking[1], self.cells), self.present)
        on_base = self._room(self.present.stop)
        again.products(self.answers, on_base[self.past])
        new.products(answers, on_base[self.present])
        rows = torch.cat([again.rows(self.answers), new.rows(answers)])
        on_base[-1] += image.offset_on_base  # every cell's, as the last token's answer is
        rows[-1] += image.offset
        self.cells = _normalised(Mixture(self.cells.scale, self.shares, rows), on_base, image.lengths[1], norm)

    def _room(self, rows: int) -> Tensor:
        """(rows, S), to be filled."""
        cells = len(self.image.lengths[0])
        return self.image.lengths[0].new_empty(rows, cells + ASIDE)[:, :cells]

    def _take(self, scores: Tensor, rows: slice) -> None:
        """Each cell's shares of each head's tokens, from scores (h, T, S)."""
        shares = self.shares[rows]
        shares[:-1].view(len(scores), scores.shape[1] - 1, scores.shape[2]).copy_(scores.softmax(1)[:, :-1])
        shares[-1] = 1


def _asked(attention: Attention, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of the tokens (N, T, C) -> both (N, h, T, d)."""
    keys = attention.split(attention.k_proj(keys))
    return keys * keys.shape[3] ** -0.5, attention.split(attention.v_proj(values))


def _scores(asking: Tensor, met: Met, cells: Mixture) -> Tensor:
    """What (h, T, d) of the tokens have in common with each cell: (h, T, S)."""
    rows = (cells.rows @ met.weight.T).unflatten(1, (len(asking), -1)).permute(1, 2, 0)  # (h, d, K)
    scores = torch.bmm(asking, met.moved).mul_(cells.scale).flatten(0, 1)
    scores.addmm_((asking @ rows).flatten(0, 1), cells.shares)
    return scores.view(*asking.shape[:2], -1).baddbmm_(asking, met.fixed)


def _look(attention: Attention, tokens: Tensor, keys: Met, values: Met, prompts: Sequence[Prompted]) -> Tensor:
    """Tokens (N, T, C) attend to each prompt's cells -> what they saw (N, T, C)."""
    queries = attention.split(attention.q_proj(tokens))  # (N, h, T, d)
    queries = queries * queries.shape[3] ** -0.5
    seen = torch.stack([_seen(q, keys, values, one.cells) for q, one in zip(queries, prompts, strict=True)])
    return attention.out_proj(seen.transpose(1, 2).flatten(2) + values.fixed)


def _seen(asking: Tensor, keys: Met, values: Met, cells: Mixture) -> Tensor:
    """(h, T, d) -> (h, T, d), without what is fixed."""
    share = _scores(asking, keys, cells).softmax(2)  # (h, T, S)
    of_rows = (share.flatten(0, 1) @ cells.shares.T).view(*asking.shape[:2], -1)  # (h, T, K)
    rows = (cells.rows @ values.weight.T).unflatten(1, (len(asking), -1)).transpose(0, 1)  # (h, K, d)
    return torch.bmm(share.mul_(cells.scale), values.moved.transpose(1, 2)).baddbmm_(of_rows, rows)


def _normalised(cells: Mixture, on_base: Tensor, lengths: Tensor, norm: nn.LayerNorm) -> Mixture:
    """A layer norm of centred cells; its bias is left to what is fixed. The new shares take the place of the old.

    on_base: the rows' products with the base (K, S), used up. lengths: the base's own, squared (S,).
    """
    scale, shares, rows = cells
    # |s b + Z'W|^2 = s^2 |b|^2 + Z (2 s Wb + WW'Z); of the symmetric WW' one half, twice.
    half = (rows @ rows.T).triu()
    half = half + half.triu(1)
    products = on_base.mul_(2 * scale)
    for i in range(0, len(rows), PRODUCTS):
        products[i : i + PRODUCTS].addmm_(half[i : i + PRODUCTS, i:], shares[i:])
    squared = products.mul_(shares).sum(0).addcmul_(scale.square(), lengths)
    shrink = (squared / rows.shape[1]).clamp_(min=0).add_(norm.eps).rsqrt_()
    return Mixture(scale * shrink, shares.mul_(shrink), rows * norm.weight)
