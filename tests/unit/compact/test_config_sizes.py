"""Sizes of a configuration are read off shapes: of an architecture of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.compact.config_sizes import Architecture, Blocks, InexpressibleError, blocks_left, fits, renumbered

Shapes = dict[str, tuple[int, ...]]


class Config:
    """Sizes by name; the width of a head is left out, and follows from the others."""

    def __init__(self, **values: Any) -> None:
        self.values = {"width": 12, "heads": 3, "head_width": None, "inner": 8, "depth": 3, "kinds": ["a", "b", "c"]}
        self.values.update(values)

    def to_dict(self) -> dict[str, Any]:
        return self.values

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Config:
        return cls(**plain)


class Block(nn.Module):
    def __init__(self, width: int, mixed: int, inner: int) -> None:
        super().__init__()
        self.query, self.mix = nn.Linear(width, mixed), nn.Linear(mixed, width)
        self.gates, self.down = nn.Linear(width, 2 * inner), nn.Linear(inner, width)


class Network(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        say = config.to_dict()
        if len(say["kinds"]) != say["depth"]:
            raise ValueError("one kind for every block")
        if say["inner"] % 4:
            raise ValueError("the inner width is no multiple of 4")
        head = say["head_width"] or say["width"] // say["heads"]
        self.embed = nn.Embedding(7, say["width"])
        self.blocks = nn.ModuleList(Block(say["width"], say["heads"] * head, say["inner"]) for _ in range(say["depth"]))
        self.unused = nn.Linear(say["inner"], 5)


def architecture() -> tuple[Architecture, Shapes]:
    own = Architecture(Network, Config(), frozenset({"unused.weight", "unused.bias"}))
    with torch.device("meta"):
        whole = Network(Config())
    shapes = {name: tuple(one.shape) for name, one in whole.state_dict().items() if not name.startswith("unused")}
    return own, shapes


def with_sizes(shapes: Shapes, of: Mapping[str, tuple[int, ...]]) -> Shapes:
    """The shapes with others for tensors whose names end so."""
    return {name: next((of[end] for end in of if name.endswith(end)), shape) for name, shape in shapes.items()}


HALF_THE_GATES = {"gates.weight": (8, 12), "gates.bias": (8,), "down.weight": (12, 4)}


def test_a_size_is_read_off_all_that_it_shapes() -> None:
    own, shapes = architecture()
    (fit,) = fits(own, with_sizes(shapes, HALF_THE_GATES))
    assert fit.changed == {"inner": (8, 4)}
    assert (fit.config.values["inner"], fit.config.values["width"]) == (4, 12)


def test_a_width_is_narrower_though_another_size_followed_from_it() -> None:
    own, shapes = architecture()
    found = with_sizes(
        shapes,
        {
            "embed.weight": (7, 10),
            "query.weight": (12, 10),
            "mix.weight": (10, 12),
            "mix.bias": (10,),
            "gates.weight": (16, 10),
            "down.weight": (10, 8),
            "down.bias": (10,),
        },
    )
    (fit,) = fits(own, found)
    assert fit.changed == {"width": (12, 10)}
    # Left out, it would be 10 // 3 now.
    assert fit.config.values["head_width"] == 4


def test_several_configurations_of_the_same_shapes_are_all_tried() -> None:
    own, shapes = architecture()
    found = list(fits(own, with_sizes(shapes, {"query.weight": (6, 12), "query.bias": (6,), "mix.weight": (12, 6)})))
    assert [fit.changed for fit in found] == [{"head_width": (4, 2)}]
    found = list(fits(own, with_sizes(shapes, {"query.weight": (24, 12), "query.bias": (24,), "mix.weight": (12, 24)})))
    assert [fit.changed for fit in found] == [{"heads": (3, 6)}, {"head_width": (4, 8)}]


def test_blocks_that_are_gone_leave_no_gap_and_take_what_is_said_of_them_along() -> None:
    own, shapes = architecture()
    left = {name: shape for name, shape in shapes.items() if not name.startswith("blocks.1.")}
    blocks = blocks_left(shapes, left)
    assert blocks == [Blocks("blocks", (0, 2), 3)]
    assert renumbered("blocks.2.mix.weight", blocks) == "blocks.1.mix.weight"
    found = list(fits(own, left, blocks))
    assert [fit.changed for fit in found] == [{"depth": (3, 2)}]
    assert found[0].config.values["kinds"] == ["a", "c"]


class Staged(nn.Module):
    """Blocks in stages; the configuration says how many each stage has, and how many kinds of something else."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        say = config.to_dict()
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Linear(say["width"], say["width"]) for _ in range(count)) for count in say["depths"]
        )
        self.others = nn.Linear(len(say["kinds"]), 2)


def test_blocks_of_stages_are_counted_where_the_configuration_counts_them() -> None:
    own = Architecture(Staged, Config(depths=[1, 3, 3], kinds=[3, 3], depth=9, heads=4))
    gone = {"stages.0.0", "stages.1.1", "stages.2.0", "stages.2.2"}
    left = {name: shape for name, shape in own.shapes.items() if name.rpartition(".")[0] not in gone}
    # The first stage is gone with its only block: the stages are no value of the configuration.
    outermost = blocks_left(own.shapes, left)
    assert (outermost[0].name, outermost[0].kept) == ("stages", (1, 2))
    with pytest.raises(InexpressibleError, match="no value of the configuration sets the number of stages"):
        list(fits(own, left, outermost))
    (fit,) = fits(own, left, blocks_left(own.shapes, left, innermost=True))
    assert fit.changed == {"depths[0]": (1, 0), "depths[1]": (3, 2), "depths[2]": (3, 1)}
    assert fit.config.values["depths"] == [0, 2, 1]
    assert fit.config.values["kinds"] == [3, 3]


def test_what_no_configuration_says_is_told() -> None:
    own, shapes = architecture()
    uneven = {f"blocks.1.{end}": shape for end, shape in HALF_THE_GATES.items()}
    with pytest.raises(InexpressibleError, match=r"differ in width \(16 in blocks\.0\.gates\.weight, 8 in blocks\.1"):
        list(fits(own, with_sizes(shapes, uneven)))
    with pytest.raises(InexpressibleError, match=r"dimension 0 of embed\.weight from 7 to 5"):
        list(fits(own, with_sizes(shapes, {"embed.weight": (5, 12)})))
    with pytest.raises(InexpressibleError, match=r"blocks\.1\.mix\.weight was removed, but what surrounds it was not"):
        blocks_left(shapes, [name for name in shapes if not name.startswith("blocks.1.mix")])


class Switching(Network):
    """Beyond a value that its configuration leaves out, it has one layer less."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if (config.to_dict().get("switch") or 0) > 100:
            del self.unused


def test_a_value_that_switches_layers_off_is_no_size() -> None:
    own = Architecture(Switching, Config(switch=None))
    assert own.config.to_dict()["switch"] is None
    assert "unused.weight" in own.shapes


def test_what_an_architecture_has_against_the_sizes_is_told() -> None:
    own, shapes = architecture()
    found = with_sizes(shapes, {"gates.weight": (12, 12), "gates.bias": (12,), "down.weight": (12, 6)})
    with pytest.raises(InexpressibleError, match=r"refuses the configuration .*: the inner width is no multiple of 4"):
        list(fits(own, found))
