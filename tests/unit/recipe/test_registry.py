"""An axis refuses what could not be called later, at the place where it is registered."""

from __future__ import annotations

import pytest

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Facts, Metric, Sampler
from prune_search.recipe.fields import Number
from prune_search.recipe.problems import UserError
from prune_search.recipe.registry import Axis, Call, Entry, Option

LIMIT = {"limit": Option(Number(), 1.0)}


def axis(call: Call | None = None) -> Axis[Sampler, object]:
    return Axis(Sampler, "sampler", "search.sampler", call=call)


def test_what_is_registered_is_found_by_name_with_its_first_line_as_summary() -> None:
    one = axis(Call(("seed",)))

    @one.register("own", facts=Sampler(independent=True), options=LIMIT, source="Nobody 2020")
    def own(seed: int, *, limit: float) -> float:
        """Draws nothing.

        Never.
        """
        return seed * limit

    entry = one["own"]
    assert (entry.axis, entry.summary, entry.source) == ("sampler", "Draws nothing.", "Nobody 2020")
    assert entry.facts.independent
    assert entry.make(2, limit=1.5) == 3.0
    assert list(one) == ["own"]
    one.withdraw("own")
    assert "own" not in one


def test_a_name_is_taken_once_and_one_of_the_package_s_own_never() -> None:
    one = axis()
    one.register("own", summary="first")(lambda: None)
    with pytest.raises(ValueError, match="sampler 'own' is registered twice"):
        one.register("own", summary="second")
    assert one["own"].summary == "first"
    with pytest.raises(ValueError, match="criterion 'snip' is registered twice"):
        CRITERIA.register("snip", summary="mine")(lambda scoring: {})


def test_an_entry_that_says_nowhere_what_it_is_is_refused() -> None:
    one = axis()
    with pytest.raises(ValueError, match="has no description"):
        one.register("own")(lambda: None)
    assert len(one) == 0


def test_facts_are_those_of_the_axis_and_told_once() -> None:
    one = axis()
    one.register("old", summary="by keyword", independent=True)(lambda: None)
    assert one["old"].facts == Sampler(independent=True)
    with pytest.raises(ValueError, match=r"unknown facts \['needs_data'\]; known: \['expects', 'independent'\]"):
        one.register("own", summary="s", needs_data=True)
    with pytest.raises(ValueError, match=r"'own': facts must be given as facts=Sampler\(…\) \(got a dict\)"):
        one.register("own", summary="s", facts={"independent": True})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="facts twice"):
        one.register("own", summary="s", facts=Sampler(), independent=True)


def test_a_function_that_does_not_take_the_axis_s_arguments_or_an_option_is_refused() -> None:
    call = Call(("scores",), declared={"always": "step"}, apart=("limit",))
    one: Axis[Metric, object] = Axis(Metric, "metric", "search.objectives", call=call)
    options = {"share": Option(Number(), 1.0)}
    with pytest.raises(ValueError, match=r"is called as <lambda>\(scores, share=…\), which does not fit"):
        one.register("own", summary="s", facts=Metric(always=False), options=options)(lambda scores: scores)
    # An option that the caller reads itself is not passed on, and a keyword goes to those alone that declare the fact.
    one.register("fits", summary="s", facts=Metric(always=False), options=LIMIT)(lambda scores: scores)
    one.register("told", summary="s", facts=Metric(always=True))(lambda scores, step: scores)
    with pytest.raises(ValueError, match="does not fit"):
        one.register("deaf", summary="s", facts=Metric(always=True))(lambda scores: scores)
    assert sorted(one) == ["fits", "told"]


def test_what_an_entry_makes_must_be_of_the_kind_that_is_needed() -> None:
    entry = Entry("criterion", "own", lambda x, *, scale: x * scale, Facts(), "s")
    assert entry.build(float, 2.0, scale=3) == 6.0
    with pytest.raises(UserError, match="criterion: 'own' returned a str where a float is needed"):
        entry.build(float, "a", scale=3)


# --- families


def family() -> Axis[Sampler, object]:
    one = axis(Call(("seed",)))

    @one.register("zoo", options=LIMIT, member="NAME", facts=Sampler(independent=True))
    def zoo(seed: int, *, limit: float, member: str) -> str:
        """Any animal."""
        return f"{seed} {limit} {member}"

    one.register("zebra", summary="one of its own")(lambda seed: None)
    return one


def test_a_family_stands_for_every_name_behind_its_slash() -> None:
    one = family()
    entry = one["zoo/plains/zebra"]
    assert (entry.name, entry.member, entry.shown, entry.facts.independent) == (
        "zoo/plains/zebra",
        "",
        "zoo/plains/zebra",
        True,
    )
    assert entry.make(2, limit=1.5) == "2 1.5 plains/zebra"
    assert ("zoo/ape" in one, "zoo" in one, "zoo/" in one, "zoo/\n" in one, "zu/ape" in one) == (
        True,
        False,
        False,
        False,
        False,
    )
    # What can be built without a name more is listed apart from what cannot.
    assert list(one) == ["zebra"]
    assert [entry.shown for entry in one.listed()] == ["zebra", "zoo/NAME"]
    with pytest.raises(ValueError, match="sampler 'zoo' is registered twice"):
        one.register("zoo", summary="again")
    one.withdraw("zoo")
    assert "zoo/ape" not in one


def test_a_family_whose_function_takes_no_member_is_refused() -> None:
    with pytest.raises(ValueError, match="member"):
        axis(Call(("seed",))).register("zoo", summary="any", member="NAME")(lambda seed: None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zo/ape", "'zo/ape' is not one of zebra, zoo/NAME (did you mean 'zoo/ape'?)"),
        ("zebr", "'zebr' is not one of zebra, zoo/NAME (did you mean 'zebra'?)"),
        ("zoo", "'zoo' is a family of samplers: write zoo/NAME"),
        ("zoo/", "'zoo/' is a family of samplers: write zoo/NAME"),
        ("river/ape", "'river/ape' is not one of zebra, zoo/NAME"),
        (3, "3 is not one of zebra, zoo/NAME"),
    ],
)
def test_a_name_near_a_family_is_suggested_with_its_member(name: object, message: str) -> None:
    assert family().unknown(name) == message
