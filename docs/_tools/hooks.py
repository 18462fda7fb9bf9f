"""What MkDocs is told: two pages lie above docs/, and links to files outside of it become names."""

from __future__ import annotations

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

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = PurePosixPath(*normal(place.parent / target))
        if path.parts[:1] == ("docs",) and (ROOT / path).exists():
            return f"[{text}]({relative(path.relative_to('docs'), page.file.src_uri)}{anchor})"
        if str(path) in ABOVE:
            return f"[{text}]({relative(PurePosixPath(ABOVE[str(path)]), page.file.src_uri)}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # MkDocs will say that it leads nowhere
        return text if str(path) == text.strip("`") else f"{text} (`{path}`)"

    return LINK.sub(link, markdown)


def normal(path: PurePosixPath) -> list[str]:
    """Its parts, with `..` taken back."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return parts


def relative(path: PurePosixPath, page: str) -> str:
    """From a page to a file, both below docs/."""
    return "../" * (len(PurePosixPath(page).parts) - 1) + str(path)
