"""What the site has besides the guide's pages: README as the start page, the API reference, and links to papers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import prune_search

ROOT = Path(__file__).parents[1]
GUIDE = "prune_search/guide/"
# A paper's number on its own: not in a link, an address or a version.
PAPER = re.compile(r"(?<![\w./\[(-])(\d{4}\.\d{4,5})(?![\w/)\]-])")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files of the guide."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace(GUIDE, "")
    files.append(File.generated(config, "index.md", content=readme))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def reference() -> str:
    """A page with everything that `prune_search` exports, from its docstrings."""
    names = [name for name in prune_search.__all__ if not name.startswith("_")]
    entries = "\n\n".join(f"::: prune_search.{name}" for name in sorted(names, key=str.lower))
    return f"# The Python interface\n\nEverything that `import prune_search` offers.\n\n{entries}\n"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to README lead to the start page, and papers to their abstracts."""
    parts = CODE.split(markdown.replace("../../README.md", "index.md"))
    return "".join(part if part.startswith("`") else PAPER.sub(_link, part) for part in parts)


def _link(found: re.Match[str]) -> str:
    return f"[{found[1]}](https://arxiv.org/abs/{found[1]})"
