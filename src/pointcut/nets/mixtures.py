"""The two-way transformer for prompts of one image, without a copy of the image's cells for each.

A cell begins as the image's own. A block adds a mixture of a few answers to it, one for each token and head, and normalises it.
So after each block a cell is still

    scale * (base + shares . rows) + fixed

where `base` and `fixed` belong to the image, and a prompt brings only a number per cell (`scale`), a few rows, and how much of
them each cell has (`shares`). Whatever is projected of the cells is projected of the base, once for all prompts, and of the few
rows; and the variance that normalises a cell is a sum of products of the same parts, since they are centred beforehand. The
cells themselves, 4 MB a prompt, are never made. The result is that of the layers but for the order of summation.

A cell's shares of a head's tokens sum to one. So the last token's answer is taken as every cell's, and the others only as how
they differ from it: one row for all heads' last answers, with a share of one, and a token less for each head.

For inference on a CPU: steps work in place. What has the size of the cells is done prompt after prompt, so that it stays in the
processor's cache, and in few steps, since cores that ask for a step at the same moment wait for one another; all else together.

Letters: N prompts, T tokens of each, S cells, C channels, h heads, d channels of a head, I = h * d, R = h * (T - 1) + 1 rows of
one block's answers, K rows of a mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import Attention
from .processor import accumulated, added, mkl_is_slow, product
from .transformer import ImageTokens, TwoWayTransformer

PRODUCTS = 64
"""Rows whose products with one another are computed together."""

ASIDE = 16
"""Floats between the rows of a mixture: cells of a power of two would else meet in the same few places of a cache, unless the
products are oneDNN's, which rearranges what it multiplies."""


class Answers(NamedTuple):
    """What a block's tokens answer the cells."""

    others: Tensor
    """(N, h, T - 1, d): how they differ from the last token's."""
    last: Tensor
    """(N, 1, I): the last token's."""

    @classmethod
    def of(cls, values: Tensor) -> Answers:
        """(N, h, T, d)."""
        last = values[:, :, -1:]
        return cls(values[:, :, :-1] - last, last.transpose(1, 2).flatten(2))


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
    """(h, d, S): twice its products with the base."""

    def rows(self, answers: Answers) -> Tensor:
        """(N, R, C)."""
        return torch.cat([(answers.others @ self.out).flatten(1, 2), answers.last @ self.out.flatten(0, 1)], 1)

    def products_in(self, room: Tensor) -> Callable[[Tensor, Tensor], None]:
        """What puts twice the products of one prompt's answers with the base there: (R, S)."""
        heads, on_base = len(self.on_base), self.on_base.flatten(0, 1)
        of_others, of_last = room[:-1].view(heads, -1, room.shape[1]), room[-1:]

        def put(others: Tensor, last: Tensor) -> None:
            torch.bmm(others, self.on_base, out=of_others)
            torch.mm(last, on_base, out=of_last)

        return put


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
    """(S,): twice its products with the base."""
    grown: Tensor
    """(S, C): the base, upscaled by a first linear layer."""
    quarters: Tensor
    """(S, C): what is added to that."""
    growth: Tensor
    """(C, C): the layer, for the rows."""


class Mixtures(NamedTuple):
    """An image's cells as each prompt has changed them."""

    scale: Tensor
    """(N, S)."""
    shares: Tensor
    """(N, K, S)."""
    rows: Tensor
    """(N, K, C)."""

    def quarters(self, image: SharedCells, prompt: int, cells: int) -> Iterator[Tensor]:
        """One prompt's, after upscaling's first layer and all that is added: so many cells after so many, (n, C)."""
        rows = product(self.rows[prompt], image.growth)
        shares = self.shares[prompt].T
        if mkl_is_slow():  # oneDNN would turn some rows at a time, which takes three times as long
            shares = shares.contiguous()
        parts = self.scale[prompt, :, None], shares, image.grown, image.quarters
        for scale, shares, grown, more in zip(*(x.split(cells) for x in parts), strict=True):
            x = added(grown, shares, rows)
            yield torch.addcmul(more, x, scale, out=x)


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
    products = product(torch.cat([*of_base, offset[None] * gain]), base.T).split([len(w) for w in of_base] + [1])

    def split(x: Tensor) -> Tensor:
        return x.unflatten(0, (heads, -1))  # (I, ...) -> (h, d, ...)

    k, v, q, k2, v2 = (split(x) for x in products[:5])
    on_base, later_on_base, on_base2 = (split(2 * x) for x in products[5:8])

    def placed(projection: nn.Linear, fixed: Tensor) -> Tensor:
        return split(product(projection.weight, tokens.positions[0].T).add_((projection.weight @ fixed)[:, None]))

    fixed, fixed2 = first.norm4.bias, second.norm4.bias
    # The keys' bias adds the same to all scores of a token: the softmax does not see it.
    asking = placed(back2.q_proj, fixed).add_(split(back2.q_proj.bias[:, None]))
    return SharedCells(
        asking=(
            split(product(back.q_proj.weight, tokens.placed[0].T).add_(back.q_proj.bias[:, None])),
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
        offset_on_base=2 * products[-1][0],
        grown=product(base, later(growth.T).T),
        quarters=(quarters + fixed2 @ growth).expand(len(base), -1).contiguous(),
        growth=growth,
    )


def transform(
    transformer: TwoWayTransformer, prompts: Tensor, begun: ImageTokens, image: SharedCells, wanted: int
) -> tuple[Tensor, Mixtures]:
    """`TwoWayTransformer.forward`: (N, T, C) -> of each prompt its first `wanted` tokens (N, wanted, C), and the cells."""
    first, second = transformer.blocks
    rows = len(image.keys[0].moved) * (prompts.shape[1] - 1) + 1
    shares = _room(image, len(prompts), 2 * rows)  # of the first block's answers, and of the second's

    tokens = first.attend_to_tokens(prompts, prompts)
    look = first.cross_attn_token_to_image
    tokens = first.digest(tokens, look.attend(look.q_proj(tokens + prompts), begun.keys, begun.values))
    keys, values = _asked(first.cross_attn_image_to_token, tokens + prompts, tokens)
    answers = Answers.of(values)
    cells = _first_answers(image, keys, answers, shares[:, :rows], first.norm4)

    tokens = second.attend_to_tokens(tokens, prompts)
    seen = _look(second.cross_attn_token_to_image, tokens + prompts, image.keys[0], image.values[0], cells)
    tokens = second.digest(tokens, seen)
    keys, values = _asked(second.cross_attn_image_to_token, tokens + prompts, tokens)
    cells = _second_answers(image, keys, (answers, Answers.of(values)), cells, shares, second.norm4)

    look = transformer.final_attn_token_to_image
    seen = _look(look, (tokens + prompts)[:, :wanted], image.keys[1], image.values[1], cells)
    return transformer.norm_final_attn(tokens[:, :wanted] + seen), cells


def _room(image: SharedCells, *shape: int) -> Tensor:
    """(..., S), to be filled."""
    cells = len(image.offset_on_base)
    aside = 0 if mkl_is_slow() else ASIDE
    return image.offset_on_base.new_empty(*shape, cells + aside)[..., :cells]


def _asked(attention: Attention, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of the tokens (N, T, C) -> both (N, h, T, d)."""
    keys = attention.split(attention.k_proj(keys))
    return keys * keys.shape[3] ** -0.5, attention.split(attention.v_proj(values))


def _first_answers(image: SharedCells, keys: Tensor, answers: Answers, shares: Tensor, norm: nn.LayerNorm) -> Mixtures:
    """The cells after the first block: keys of the tokens (N, h, T, d), shares (N, R, S) to be filled."""
    answering, untouched = image.answering[0], torch.ones_like(image.offset_on_base)
    rows = answering.rows(answers)
    products = Products(image, rows)
    put = answering.products_in(products.on_base)
    scale = untouched.expand(len(rows), -1)
    others = _begun(shares, scale, keys.shape[1])
    squared = []
    for n, (asking, other, last) in enumerate(zip(keys, *answers, strict=True)):
        _share(torch.bmm(asking, image.asking[0]), untouched, others[n])
        put(other, last)
        squared.append(products.squared(n, shares[n]))
    return _normalised(Mixtures(scale, shares, rows), squared, image.lengths[0], norm)


def _second_answers(
    image: SharedCells, keys: Tensor, answers: tuple[Answers, Answers], cells: Mixtures, shares: Tensor, norm: nn.LayerNorm
) -> Mixtures:
    """The cells after the second: answers of both, shares (N, K, S) of which the second half is to be filled."""
    _, again, new = image.answering
    rows = torch.cat([again.rows(answers[0]), new.rows(answers[1])], 1)
    rows[:, -1] += image.offset  # every cell's, as the last token's answer is
    past = cells.rows.shape[1]
    products = Products(image, rows)
    put, put_new = again.products_in(products.on_base[:past]), new.products_in(products.on_base[past:])
    others = _begun(shares[:, past:], cells.scale, keys.shape[1])
    common = _common(keys, image.asking[1], cells)
    squared = []
    for n, (asking, with_rows, scale, before) in enumerate(zip(keys, common, cells.scale, cells.shares, strict=True)):
        _share(_scores(asking, with_rows, image.asking[1], scale, before), scale, others[n])
        put(answers[0].others[n], answers[0].last[n])
        put_new(answers[1].others[n], answers[1].last[n])
        products.on_base[-1] += image.offset_on_base
        squared.append(products.squared(n, shares[n]))
    return _normalised(Mixtures(cells.scale, shares, rows), squared, image.lengths[1], norm)


def _begun(shares: Tensor, scale: Tensor, heads: int) -> Tensor:
    """Shares (N, R, S) of a block's answers: the last token's filled, the others' to be filled, (N, h, T - 1, S)."""
    torch.reciprocal(scale, out=shares[:, -1])
    return shares[:, :-1].unflatten(1, (heads, -1))


def _share(scores: Tensor, scale: Tensor, others: Tensor) -> None:
    """Each cell's shares (h, T - 1, S) of each head's tokens, from scores (h, T, S), for cells of that scale (S,)."""
    torch.div(scores.softmax(1)[:, :-1], scale, out=others)


def _common(asking: Tensor, met: Met, cells: Mixtures) -> Tensor:
    """What (N, h, T, d) of the tokens have in common with the projected rows: (N, h * T, K)."""
    rows = product(cells.rows, met.weight.T).unflatten(2, (asking.shape[1], -1)).permute(0, 2, 3, 1)  # (N, h, d, K)
    return (asking @ rows).flatten(1, 2)


def _scores(asking: Tensor, with_rows: Tensor, met: Met, scale: Tensor, shares: Tensor) -> Tensor:
    """What one prompt's tokens (h, T, d) have in common with each cell, `with_rows` with its rows: (h, T, S)."""
    scores = torch.bmm(asking, met.moved)
    scores = accumulated(scores.flatten(0, 1), with_rows, shares).mul_(scale).view_as(scores)
    return scores.baddbmm_(asking, met.fixed)


def _look(attention: Attention, tokens: Tensor, keys: Met, values: Met, cells: Mixtures) -> Tensor:
    """Tokens (N, T, C) attend to each prompt's cells -> what they saw (N, T, C)."""
    asking = attention.split(attention.q_proj(tokens))  # (N, h, T, d)
    asking = asking * asking.shape[3] ** -0.5
    moved, of_base, of_rows = values.moved.transpose(1, 2), [], []
    for one, with_rows, scale, shares in zip(asking, _common(asking, keys, cells), cells.scale, cells.shares, strict=True):
        share = _scores(one, with_rows, keys, scale, shares).softmax(2).mul_(scale)  # (h, T, S)
        of_base.append(torch.bmm(share, moved))
        of_rows.append(product(share.flatten(0, 1), shares.T))  # (h * T, K)
    rows = product(cells.rows, values.weight.T).unflatten(2, (asking.shape[1], -1)).transpose(1, 2)  # (N, h, K, d)
    seen = torch.stack(of_base) + torch.stack(of_rows).view(*asking.shape[:3], -1) @ rows
    return attention.out_proj(seen.transpose(1, 2).flatten(2) + values.fixed)


class Products:
    """How long a mixture's cells are: |b + Z'W|^2 - |b|^2 = Z (2 Wb + WW'Z), for shares Z, rows W and the base b."""

    def __init__(self, image: SharedCells, rows: Tensor) -> None:
        """rows: (N, K, C)."""
        half = (rows @ rows.transpose(1, 2)).triu()
        half = half + half.triu(1)  # of the symmetric WW' one half, twice
        self.on_base = _room(image, rows.shape[1])
        """(K, S): one prompt's 2 Wb."""
        starts = range(0, rows.shape[1], PRODUCTS)
        self.parts = [(i, self.on_base[i : i + PRODUCTS], half[:, i : i + PRODUCTS, i:]) for i in starts]

    def squared(self, prompt: int, shares: Tensor) -> Tensor:
        """How much longer its cells are than the base, squared, before their scale (S,); shares: (K, S). Uses `on_base` up."""
        squared = [
            accumulated(products, weights[prompt], shares[start:]).mul_(shares[start : start + len(products)]).sum(0)
            for start, products, weights in self.parts
        ]
        return reduce(torch.add, squared)


def _normalised(cells: Mixtures, squared: list[Tensor], lengths: Tensor, norm: nn.LayerNorm) -> Mixtures:
    """A layer norm of centred cells, of which `squared` is known, and the base's lengths squared (S,).

    Its bias is left to what is fixed.
    """
    spread = torch.stack(squared).add_(lengths).clamp_(min=0).mul_(cells.scale.square() / cells.rows.shape[2])
    return Mixtures(cells.scale * spread.add_(norm.eps).rsqrt_(), cells.shares, cells.rows * norm.weight)
