"""The decoder's algebra: folded attention and upscaling in cell order are what the plain layers compute."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcut.nets import folding
from pointcut.nets.decoder import DecoderConfig, ImageFeatures, MaskDecoder, from_parts, to_parts
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


@pytest.mark.parametrize("high_res", [True, False])
def test_upscaling_is_the_convolutions(high_res: bool) -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(DecoderConfig(width=32, heads=4, mlp_width=32, high_res=high_res)).eval()
    grow1, norm, act1, grow2, act2 = decoder.upscaling
    cells, fine, middle = torch.randn(2, 32, 3, 5), torch.randn(1, 4, 12, 20), torch.randn(1, 8, 6, 10)
    features = ImageFeatures(torch.randn(1, 32, 3, 5), (fine, middle) if high_res else ())
    with torch.inference_mode():
        x = grow1(cells) + middle if high_res else grow1(cells)
        x = grow2(act1(norm(x)))
        expected = act2(x + fine if high_res else x)
        image = decoder.image_side(features, torch.zeros(1, 32, 1, 1), torch.zeros(1, 15, 32))
        rows = decoder.upscale(image, cells.flatten(2).transpose(1, 2))
    torch.testing.assert_close(from_parts(rows, (3, 5), 2), expected)


@settings(max_examples=20, deadline=None)
@given(h=st.integers(1, 4), w=st.integers(1, 4), halvings=st.integers(0, 3))
def test_parts_are_put_together_again(h: int, w: int, halvings: int) -> None:
    maps = torch.arange(2 * 3 * h * w * 4**halvings).view(2, 3, h * 2**halvings, w * 2**halvings)
    rows = to_parts(maps, halvings)
    assert rows.shape == (2, h * w * 4**halvings, 3)
    torch.testing.assert_close(from_parts(rows, (h, w), halvings), maps)
