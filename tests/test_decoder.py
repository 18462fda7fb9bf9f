"""The decoder's algebra: folded attention, mixtures in the cells' place, and upscaling in cell order are the plain layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pointcut
from pointcut.nets import decoder as decoders
from pointcut.nets import folding, mixtures
from pointcut.nets.cells import from_parts
from pointcut.nets.decoder import DecoderConfig, ImageFeatures, MaskDecoder, Masks
from pointcut.nets.layers import Fuser, Part
from pointcut.nets.prompts import Prompts
from pointcut.nets.transformer import TwoWayTransformer


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), prompts=st.integers(1, 3), tokens=st.integers(1, 8), own_images=st.booleans())
def test_folding_is_exact(seed: int, prompts: int, tokens: int, own_images: bool) -> None:
    torch.manual_seed(seed)
    transformer = TwoWayTransformer(32, heads=4, mlp_width=48).double()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    prompt = torch.randn(prompts, tokens, 32).double()
    images = prompts if own_images else 1
    with torch.inference_mode():
        image = transformer.image_tokens(torch.randn(images, 32, 5, 6).double(), torch.randn(1, 30, 32).double())
        plain = transformer.train()(prompt, image, wanted=min(3, tokens))
        folded = transformer.eval()(prompt, image, wanted=min(3, tokens))
    assert folding.pays(transformer.final_attn_token_to_image, prompt) == (tokens <= 4)
    for first, second in zip(plain, folded, strict=True):
        torch.testing.assert_close(first, second)


def random_decoder(high_res: bool, border_depth: int = 0, grid: tuple[int, int] = (3, 5)) -> tuple[MaskDecoder, ImageFeatures]:
    """A decoder of width 32 whose every part matters, and features of an image of so many cells."""
    config = DecoderConfig(width=32, heads=4, mlp_width=48, high_res=high_res, border_depth=border_depth)
    decoder = MaskDecoder(config).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    h, w = grid
    fine = (torch.randn(1, 4, 4 * h, 4 * w).double(), torch.randn(1, 8, 2 * h, 2 * w).double()) if high_res else ()
    return decoder, ImageFeatures(torch.randn(1, 32, h, w).double(), fine)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), prompts=st.integers(1, 3), tokens=st.integers(0, 3), high_res=st.booleans())
def test_mixtures_are_exact(seed: int, prompts: int, tokens: int, high_res: bool) -> None:
    torch.manual_seed(seed)
    decoder, features = random_decoder(high_res)
    prompt = torch.randn(prompts, 1 + tokens, 32).double()
    with torch.inference_mode():
        side = decoder.image_side(features, torch.zeros(1, 32, 1, 1).double(), torch.randn(1, 15, 32).double())
        shared = decoder.share(side).shared
        assert side.tokens is not None
        assert shared is not None
        expected, cells = decoder.transformer.train()(prompt, side.tokens, wanted=1)
        seen, mixed = mixtures.transform(decoder.transformer, prompt, side.tokens, shared, wanted=1)
        torch.testing.assert_close(seen, expected)
        for n, own in enumerate(cells):
            grown = decoder.upscaling.quarters(own[None], side.quarters)[0]
            for together in (4, 15):
                pieces = list(mixed.quarters(shared, n, together))
                assert len(pieces) == -(-15 // together)
                torch.testing.assert_close(torch.cat(pieces), grown)


@pytest.mark.parametrize("high_res", [True, False])
def test_prompts_that_share_an_image_get_the_masks_of_those_that_do_not(
    high_res: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    decoder, features = random_decoder(high_res)
    prompt = torch.randn(3, 1, 32).double()
    monkeypatch.setattr(decoders, "CELLS", 4)  # of fifteen: the last piece is smaller
    monkeypatch.setattr(folding, "pays", lambda *_: True)
    with torch.inference_mode():
        side = decoder.image_side(features, torch.zeros(1, 32, 1, 1).double(), torch.randn(1, 15, 32).double())
        alone, sharing = decoder.decode(side, prompt), decoder.decode(decoder.share(side), prompt)
        assert isinstance(alone.cells, torch.Tensor)
        assert not isinstance(sharing.cells, torch.Tensor)
        torch.testing.assert_close(sharing.scores, alone.scores)
        masks = decoder.draw(decoder.share(side), sharing, [0, 2])
        torch.testing.assert_close(masks, decoder.draw(side, alone, [0, 2]))
        some = decoder.draw_wanted(decoder.share(side), sharing, [[2], [], [0, 2]])
        torch.testing.assert_close(some, torch.cat([masks[0, 1:], masks[2]]))
    with torch.no_grad():
        side = decoder.share(decoder.image_side(features, torch.zeros(1, 32, 1, 1).double(), torch.randn(1, 15, 32).double()))
    learning = decoder.draw(side, decoder.decode(side, prompt), [0, 2])
    learning.sum().backward()  # where gradients are wanted nothing is shared
    with torch.no_grad():
        torch.testing.assert_close(decoder.draw(side, decoder.decode(side, prompt), [0, 2]), learning.detach())


@pytest.mark.parametrize("high_res", [True, False])
def test_a_prompt_for_each_of_several_images(high_res: bool) -> None:
    """Outside of training, too."""
    torch.manual_seed(0)
    decoder, first = random_decoder(high_res)
    second = ImageFeatures(torch.randn_like(first.embedding), tuple(torch.randn_like(x) for x in first.high_res))
    finer = tuple(torch.cat(x) for x in zip(first.high_res, second.high_res, strict=True))
    both = ImageFeatures(torch.cat([first.embedding, second.embedding]), finer)
    prompt, dense, places = torch.randn(2, 1, 32).double(), torch.zeros(1, 32, 1, 1).double(), torch.randn(1, 15, 32).double()

    def drawn(image: ImageFeatures, prompt: torch.Tensor) -> torch.Tensor:
        side = decoder.image_side(image, dense, places)
        return decoder.draw(side, decoder.decode(side, prompt), [0, 2])

    with torch.inference_mode():
        torch.testing.assert_close(drawn(both, prompt), torch.cat([drawn(first, prompt[:1]), drawn(second, prompt[1:])]))


def test_the_single_mask_replaces_what_is_most_like_it() -> None:
    """If it has the higher score."""
    squares = torch.full((3, 4, 8, 8), -1.0)
    for prompt, sides in enumerate(((4, 8, 5, 2), (4, 1, 8, 3), (4, 8, 5, 2))):
        for k, side in enumerate(sides):
            squares[prompt, k, :side, :side] = 1.0
    scores = torch.tensor([[0.5, 0.6, 0.4, 0.7], [0.9, 0.3, 0.2, 0.1], [0.5, 0.6, 0.7, 0.4]])
    three = Masks(squares, scores, scores[..., None], torch.zeros(3, 1)).with_single()
    torch.testing.assert_close(three.scores, torch.tensor([[0.6, 0.5, 0.7], [0.3, 0.2, 0.9], [0.6, 0.7, 0.4]]))
    assert torch.equal(three.tokens[..., 0], three.scores)
    assert (three.logits > 0).sum((2, 3)).tolist() == [[64, 16, 4], [1, 64, 16], [64, 25, 4]]


def test_borders_see_what_is_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of 7x7 reach six quarters far, three cells; a few cells after others or all at once is the same."""
    torch.manual_seed(0)
    decoder, features = random_decoder(high_res=True, border_depth=2, grid=(8, 8))
    monkeypatch.setattr(decoders, "CELLS", 20)  # of 64
    rows = torch.randn(1, 2, 4).double()
    with torch.inference_mode():
        places, cells = torch.randn(1, 64, 32).double(), torch.randn(1, 64, 32).double()
        side = decoder.image_side(features, torch.zeros(1, 32, 1, 1).double(), places)
        parts = decoder.parts_of_all(cells, side.quarters, side.sixteenths, rows)
        torch.testing.assert_close(decoder._parts_of_one(side, cells, 0, rows[0])[None], parts)
        cells[0, 0] += 1
        changed = (decoder.parts_of_all(cells, side.quarters, side.sixteenths, rows) != parts).any(1).view(8, 8, 16)
    assert changed[:4, :4].all()
    assert not changed[4:].any()
    assert not changed[:, 4:].any()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.tuples(st.integers(0, 15), st.integers(1, 5)),
    columns=st.tuples(st.integers(0, 11), st.integers(1, 5)),
)
def test_a_change_in_a_part_of_the_map_is_fused_alone(seed: int, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    torch.manual_seed(seed)
    fuser = Fuser(8, depth=2, layer_scale=1.0).double()
    before = torch.randn(1, 8, 16, 12).double()
    part = Part(rows[0], min(16, sum(rows)), columns[0], min(12, sum(columns)))
    after = before.clone()
    part.of(after).add_(1)
    assert Part.around((after != before).any(1)[0]) == part
    assert Part.around(torch.zeros(16, 12, dtype=torch.bool)) is None
    with torch.inference_mode():
        known = fuser.steps(before)
        torch.testing.assert_close(fuser.after_change(known, after, part), fuser(after))
        torch.testing.assert_close(known[0], before)  # what others go by is left alone


def test_many_clicks_on_an_image_get_the_masks_of_one(nano: pointcut.Segmenter) -> None:
    photo = nano.encode(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    net, side = photo.net, photo.view.side
    assert side.blank is not None
    assert photo.side.blank is None
    for x, y in ((256.0, 256.0), (3.0, 500.0), (-200.0, 9.0)):
        clicks = Prompts(torch.tensor([[[x, y], [x, 255.0]]]), torch.tensor([[1, 0]]))
        with torch.inference_mode():
            alone, sharing = (net.predict(image, clicks, multimask=True) for image in (photo.side, side))
        torch.testing.assert_close(sharing.logits, alone.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("high_res", [True, False])
def test_upscaling_is_the_convolutions(high_res: bool) -> None:
    torch.manual_seed(0)
    decoder, features = random_decoder(high_res)
    layers, cells = decoder.upscaling, torch.randn(2, 32, 3, 5).double()
    with torch.inference_mode():
        x, middle = layers.grow1(cells), features.high_res[1:]
        x = layers.act1(layers.norm(x + middle[0] if middle else x))
        x = layers.grow2(x)
        expected = layers.act2(x + features.high_res[0] if middle else x)
        quarters, more = decoder.finer_parts(features)
        quarters = layers.quarters(cells.flatten(2).transpose(1, 2), quarters)
        parts = layers.parts(quarters, more, torch.eye(4).double().expand(2, -1, -1))  # masks that are the channels
    torch.testing.assert_close(from_parts(parts.transpose(1, 2), (3, 5), 2), expected)
