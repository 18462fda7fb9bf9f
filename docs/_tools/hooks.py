"""What MkDocs is told: two pages lie above docs/, and links to files outside of it become names."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
ABOVE = {"SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    for source, name in ABOVE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The same text with links that lead somewhere on the site."""
    place = PurePosixPath("docs") / page.file.src_uri if page.file.src_uri not in ABOVE.values() else PurePosixPath("X.md")
    here = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = PurePosixPath(posixpath.normpath(place.parent / target))
        if path.parts[:1] == ("docs",) and (ROOT / path).exists():
            return f"[{text}]({posixpath.relpath(path.relative_to('docs'), here)}{anchor})"
        if str(path) in ABOVE:
            return f"[{text}]({posixpath.relpath(ABOVE[str(path)], here)}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # MkDocs will say that it leads nowhere
        return text if str(path) == text.strip("`") else f"{text} (`{path}`)"

    return LINK.sub(link, markdown)
