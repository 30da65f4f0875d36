"""A hook of mkdocs: the README is the site's first page, and links that leave docs/ become text.

A site has no sources beside it, so that a link to a file outside docs/ leads nowhere.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# A link or a picture: what it says, and where it leads.
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add index.md, made of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Keep the text of links to what is not part of the site."""

    def kept(link: re.Match[str]) -> str:
        target = link[2].partition("#")[0]
        inside = not target or "://" in target or files.get_file_from_path(target) is not None
        return link[0] if inside else link[1]

    return _LINK.sub(kept, markdown)
