"""Tensor names: Meta's and transformers' layouts to ours, by pure renaming (and one table that is cut in rows).

Ours are Meta's, with `sam_` dropped, SAM 1's MLPs named as SAM 2's, and what only tracking needs under `memory.`. A test proves
that every rename is a bijection onto the network's own names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

Rules = tuple[tuple[str, str], ...]

META_RULES: Rules = (
    (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"\.mlp\.lin1\.", ".mlp.layers.0."),
    (r"\.mlp\.lin2\.", ".mlp.layers.1."),
    (r"\.mlp\.fc1\.", ".mlp.layers.0."),
    (r"\.mlp\.fc2\.", ".mlp.layers.1."),
    (r"\.c\.weight$", ".conv.weight"),
    (r"\.bn\.", ".norm."),
    (
        r"^(memory_attention|memory_encoder|maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial|mask_downsample"
        r"|obj_ptr_proj|obj_ptr_tpos_proj)(?=[._]|$)",
        r"memory.\1",
    ),
)

_SHARED_RULES: Rules = (
    (
        r"^prompt_encoder\.shared_embedding\.positional_embedding$",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
    (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
    # MLPs of three layers (heads) and of two (blocks)
    (r"((?:_mlps\.\d|_head|object_pointer_proj))\.layers\.0\.", r"\1.layers.1."),
    (r"((?:_mlps\.\d|_head|object_pointer_proj))\.proj_in\.", r"\1.layers.0."),
    (r"((?:_mlps\.\d|_head|object_pointer_proj))\.proj_out\.", r"\1.layers.2."),
    (r"\.mlp\.(?:proj_in|lin1)\.", ".mlp.layers.0."),
    (r"\.mlp\.(?:proj_out|lin2)\.", ".mlp.layers.1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
)

SAM1_TRANSFORMERS_RULES: Rules = (
    *_SHARED_RULES,
    (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
)

SAM2_TRANSFORMERS_RULES: Rules = (
    *_SHARED_RULES,
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "memory.no_mem_pos_enc"),
    (r"^memory_temporal_positional_encoding$", "memory.maskmem_tpos_enc"),
    (r"^no_object_pointer$", "memory.no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "memory.no_obj_embed_spatial"),
    (r"^temporal_positional_encoding_projection_layer\.", "memory.obj_ptr_tpos_proj."),
    (r"^object_pointer_proj\.", "memory.obj_ptr_proj."),
    (r"^mask_downsample\.", "memory.mask_downsample."),
    (r"^memory_attention\.layer_norm\.", "memory.memory_attention.norm."),
    (r"^memory_attention\.", "memory.memory_attention."),
    (r"^memory_encoder\.feature_projection\.", "memory.memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory.memory_encoder.out_proj."),
    (r"^memory_encoder\.mask_downsampler\.final_conv\.", "memory.memory_encoder.mask_downsampler.encoder.12."),
    *(  # convolution, normalisation and activation four times
        (
            rf"^memory_encoder\.mask_downsampler\.layers\.{i}\.{part}\.",
            f"memory.memory_encoder.mask_downsampler.encoder.{3 * i + place}.",
        )
        for i in range(4)
        for place, part in enumerate(("conv", "layer_norm"))
    ),
    (r"^memory_encoder\.memory_fuser\.", "memory.memory_encoder.fuser."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"(\.fuser\.layers\.\d)\.scale$", r"\1.gamma"),
    (r"(\.fuser\.layers\.\d)\.layer_norm\.", r"\1.norm."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
)

DUPLICATE = "shared_image_embedding.positional_embedding"
"""transformers writes the prompt encoder's matrix twice."""

UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")
"""MobileSAM's encoder once told pictures apart; its file still holds the layers that did."""


def rename(name: str, rules: Rules) -> str:
    """One tensor name by the rules, in order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def rules_for(names: Iterable[str]) -> Rules:
    """Which layout the names are of."""
    names = set(names)
    if any(n.startswith("vision_encoder.backbone.") for n in names):
        return SAM2_TRANSFORMERS_RULES
    if any(n.startswith("vision_encoder.") for n in names):
        return SAM1_TRANSFORMERS_RULES
    return META_RULES


def to_native(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in any published layout -> the same tensors by our names."""
    rules = rules_for(tensors)
    native = {}
    for name, tensor in tensors.items():
        if name == DUPLICATE or name.startswith(UNUSED):
            continue
        if name == "prompt_encoder.point_embed.weight":  # one table there, four of one row here
            for i in range(4):
                native[f"prompt_encoder.point_embeddings.{i}.weight"] = tensor[i : i + 1]
            continue
        native[rename(name, rules)] = tensor
    matrix = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    if DUPLICATE in tensors:
        native.setdefault(matrix, tensors[DUPLICATE])
    return native
