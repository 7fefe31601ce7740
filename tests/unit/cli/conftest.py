"""The command line, typed in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Said, Typed


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type `prune-search VERB …` with the test's folder as storage."""
    from prune_search.cli import main

    monkeypatch.setenv("PRUNE_SEARCH_STORAGE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")

    def type_it(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["prune-search", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return type_it
