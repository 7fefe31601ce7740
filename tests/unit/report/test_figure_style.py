"""Figures that are told apart, read without a legend over them, and are the same bytes again."""

from __future__ import annotations

import pytest

from prune_search.report.figure_style import (
    MAX_KINDS,
    OTHERS,
    drawn,
    focus,
    kinds,
    legend,
    log_shares,
    new_figure,
    short_number,
    styles,
    weights_left,
)


def test_a_dozen_kinds_are_told_apart_and_the_same_names_look_the_same() -> None:
    names = [f"kind {number}" for number in range(MAX_KINDS)]
    found = styles(names)
    assert len({(style.colour, style.marker, style.filled) for style in found.values()}) == MAX_KINDS
    assert styles(reversed(names)) == found
    assert kinds(names) == names
    assert kinds([*names, "one more"]) == [*names[: MAX_KINDS - 1], OTHERS, OTHERS]
    with_others = styles([OTHERS, *names])
    assert {name: with_others[name] for name in names} == found, "the rest is drawn last, and moves no other"
    assert with_others[OTHERS].marks["markerfacecolor"] == "white"


def test_a_paradigm_looks_the_same_beside_whatever_others() -> None:
    alone = styles(["snip", "set"])
    among = styles(["snip", "set", "a paradigm of mine", *(f"kind {n}" for n in range(5)), "lottery-ticket"])
    assert {name: among[name] for name in alone} == alone
    looks = [(style.colour, style.marker, style.filled) for style in among.values()]
    assert len(set(looks)) == len(looks)


def test_the_sparsest_is_at_the_right_of_an_axis_in_percent() -> None:
    _, (axes,) = new_figure("a title")
    weights_left(axes, [0.0, 0.5, 0.99])
    left, right = axes.get_xlim()
    assert left == pytest.approx(1.0)
    assert right == pytest.approx(0.01 / 1.25)
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "1 %",
        "2 %",
        "5 %",
        "10 %",
        "20 %",
        "50 %",
        "100 %",
    ]


def test_a_narrow_axis_has_ticks_too() -> None:
    _, (axes,) = new_figure("a title")
    log_shares(axes, 0.11, 0.14)
    assert len(axes.get_xticks()) >= 3
    assert all(0.11 <= tick <= 0.14 for tick in axes.get_xticks())


def test_far_outliers_are_out_of_sight_and_counted() -> None:
    _, (axes,) = new_figure("a title")
    values = [0.90, 0.91, 0.92, 0.93, 0.94, 0.1]
    axes.plot(range(6), values)
    focus(axes, values)
    assert 0.1 < axes.get_ylim()[0] < 0.9
    assert [text.get_text() for text in axes.texts] == ["↓ 1 further below"]
    _, (even,) = new_figure("a title")
    before = even.get_ylim()
    focus(even, [0.5, 0.5, 0.5, 0.5, 0.1])
    focus(even, [0.1, 0.9, 0.9])
    assert even.get_ylim() == before


def test_a_name_is_text_and_the_same_figure_is_the_same_bytes() -> None:
    def picture() -> bytes:
        figure, (axes,) = new_figure("a title")
        axes.plot([0, 1], [0, 1], label="costs $5 & <b>")
        axes.plot([0, 1], [1, 0], label="costs $5 & <b>")
        legend(figure, axes)
        return drawn(figure, "svg", "salt")

    content = picture()
    assert content == picture()
    assert content.decode().count("costs $5 &amp; &lt;b&gt;") == 1


def test_a_figure_that_is_no_number_is_a_dash() -> None:
    assert (short_number(0.12345), short_number(float("nan"))) == ("0.123", "–")
