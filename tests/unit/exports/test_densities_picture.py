"""The bars of a model card: one for each layer, as long as its density."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from prune_search.exports.densities_picture import BAR, MAX_LAYERS, densities_svg
from prune_search.pruning.mask.receipt import LayerReceipt


def layer(name: str, kept: int, total: int = 100) -> LayerReceipt:
    return LayerReceipt(name, total, kept, total, kept)


def test_every_layer_has_a_bar_of_its_density() -> None:
    drawn = densities_svg([layer("first", 25), layer("empty", 0), layer("none", 0, 0)])
    ElementTree.fromstring(drawn)
    bars = [float(width) for width in re.findall(r'width="([0-9.]+)" height="12" fill="#333333"', drawn)]
    assert bars == [BAR * 0.25, 0.0, 0.0]
    assert ">25.0 %<" in drawn


def test_long_and_hostile_names_are_cut_and_escaped_and_many_layers_are_counted() -> None:
    hostile = "<script>&" + "x" * 100
    drawn = densities_svg([layer(f"{hostile}{number}", 1) for number in range(MAX_LAYERS + 3)])
    ElementTree.fromstring(drawn)
    assert "<script>" not in drawn
    assert "… and 3 more" in drawn
    assert "&lt;script&gt;&amp;" in densities_svg([layer("<script>&", 1)])
