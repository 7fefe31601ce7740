"""The guide as a site: every page is in the menu, links lead somewhere, the reference has every public name."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import prune_search

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="the extra docs is not installed"),
]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site" / "reference" / "index.html").read_text(encoding="utf-8")
    missing = [
        name
        for name in prune_search.__all__
        if not name.startswith("_") and f'id="prune_search.{name}"' not in reference
    ]
    assert not missing
    methods = (tmp_path / "site" / "methods" / "index.html").read_text(encoding="utf-8")
    assert 'href="https://arxiv.org/abs/1803.03635"' in methods
    menu = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "prune_search" / "guide").glob("*.md"):
        assert f'href="{page.stem}/"' in menu, f"{page.name} is not in the menu"
