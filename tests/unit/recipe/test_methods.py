"""The guide's table of methods is the one that the registry gives."""

from __future__ import annotations

from pathlib import Path

from command_line import Typed

import prune_search
from prune_search.recipe.axes import CRITERIA, PRESETS
from prune_search.recipe.methods import markdown

PAGE = Path(prune_search.__file__).parent / "guide" / "methods.md"
BEGIN, END = "<!-- methods: prune-search methods --markdown -->\n", "<!-- end of methods -->"


def test_the_guide_has_the_table_of_the_registry() -> None:
    """If this fails: put the output of ``prune-search methods --markdown`` between the two markers."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.split(BEGIN)[1].split(END)[0].strip("\n") == markdown()


def test_every_row_has_four_cells_whatever_a_summary_says() -> None:
    rows = markdown().splitlines()
    assert {len(row.replace("\\|", "").split("|")) for row in rows} == {6}
    names = {row.split("|")[2].strip(" `") for row in rows}
    assert {*CRITERIA, *PRESETS} <= names


def test_the_command_prints_it(typed: Typed) -> None:
    said = typed("methods", "--markdown")
    assert (said.code, said.out.strip("\n")) == (0, markdown())
