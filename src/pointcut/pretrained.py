"""Other people's models in transformers' layout, for what stands beside segmenting: detectors, image-text models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .errors import MissingExtra, WeightsNotFound, first_line

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

PATTERNS = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
"""Of a repository's files, those that are fetched: none of them can run code."""


def open_pretrained(source: str, auto_class: str, *, what: str, extra: str, option: str) -> tuple[Any, Any]:
    """A model and its processor, from a Hub id (fetched once) or a folder; safetensors only.

    auto_class: of transformers, such as `AutoModel`. what, extra, option: for messages: what it is to be, which extra it needs,
    and how the command is told another one. Raises MissingExtra, WeightsNotFound.
    """
    try:
        import transformers
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra(f"{what} needs the extra: pip install 'pointcut[{extra}]'") from None
    try:
        folder = source
        if not Path(source).is_dir():
            if not HUB_ID.fullmatch(source):
                raise OSError("no such folder")
            # at once, and before transformers: without a network that would ask for each of its files, for minutes
            folder = snapshot_download(source, allow_patterns=PATTERNS)
        processor = transformers.AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
        model = getattr(transformers, auto_class).from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise WeightsNotFound(
            f"{source}: cannot be loaded as {what} ({first_line(error)}); give a folder, or a Hub id that can be reached, "
            f"as in {option}"
        ) from None
    return model, processor
