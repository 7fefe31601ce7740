"""`prune-search methods`: the registry as a table, as JSON, and one axis of it."""

from __future__ import annotations

from command_line import Typed, the_object

from prune_search.recipe.axes import AXES


def test_methods_has_every_value_of_every_axis(typed: Typed) -> None:
    rows = the_object(typed("methods", "--json").out)["methods"]
    assert {(row["axis"], row["name"]) for row in rows} == {(a.name, one.shown) for a in AXES for one in a.listed()}
    assert all(row["summary"] and row["key"] for row in rows)
    assert [row["name"] for row in rows if row["axis"] in ("preset", "criterion") and not row["source"]] == []
    assert typed("methods", "no-such-axis").code == 2


def test_one_axis_is_shown_with_names_options_and_sources(typed: Typed) -> None:
    said = typed("methods", "dynamics")
    assert said.code == 0
    words = " ".join(said.out.split())
    assert "gradual" in words
    assert "1710.01878" in words
    assert "snip" not in words
    said = typed("methods", "dynamic")
    assert (said.code, "did you mean 'dynamics'?" in said.err) == (2, True)


def test_one_value_is_explained_option_by_option(typed: Typed) -> None:
    said = typed("methods", "dynamics", "rigl")
    assert said.code == 0
    words = " ".join(said.out.split())
    rows = the_object(typed("methods", "dynamics", "rigl", "--json").out)["methods"]
    assert [row["name"] for row in rows] == ["rigl"]
    assert "1911.11134" in words
    for option in rows[0]["options"]:
        assert option["name"] in words
        assert option["doc"].split()[0] in words
    said = typed("methods", "dynamics", "rigle")
    assert (said.code, "did you mean 'rigl'?" in said.err) == (2, True)
    assert "It has no options." in typed("methods", "criterion", "random").out
