"""Coupled channels: what belongs to them, that they can be cut out, and that they are scored as Torch-Pruning does."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch_pruning
from torch import Tensor, nn

import prune_search
from prune_search.pruning.mask import channels
from prune_search.pruning.mask.dependency_groups import Claim
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.recipe.problems import UserError
from prune_search.tasks.models.networks.resnet import ResNet

INPUTS = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3])


class Sigmoids(nn.Module):
    """Biases, a depthwise convolution, a transposed one, and an activation whose value at 0 is not 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.up = nn.ConvTranspose2d(6, 8, 2, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Linear(8 * 16 * 16, 10)
        self.out = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.norm(self.up(torch.relu(self.depthwise(self.first(x))))))
        return self.out(torch.sigmoid(self.hidden(x.flatten(1))))  # type: ignore[no-any-return]


def network(kind: str) -> nn.Module:
    torch.manual_seed(3)
    made = {
        "projection": lambda: ResNet(3, 4, 2, 4, True, 1.0),
        "padding": lambda: ResNet(3, 4, 1, 4, False, 1.0),
        "sigmoids": Sigmoids,
    }[kind]()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    return made.eval()


def found(model: nn.Module, criterion: Any = "l1", sparsity: float = 0.5, **more: Any) -> MaskSet:
    return prune_search.find_mask(model, criterion, sparsity, granularity="channel", example_input=INPUTS, **more)


def cut(model: nn.Module, mask: MaskSet, last: str) -> nn.Module:
    """The network without the channels that the mask removes, by Torch-Pruning's own surgery."""
    small = copy.deepcopy(model)
    graph = torch_pruning.DependencyGraph().build_dependency(small, INPUTS)
    names = {module: name for name, module in small.named_modules()}
    output = small.get_submodule(last)
    for group in list(graph.get_all_groups([output], [nn.Conv2d, nn.ConvTranspose2d, nn.Linear])):
        root = group[0].dep.target.module
        rows = mask[f"{names[root]}.weight"]
        rows = rows.transpose(0, 1) if isinstance(root, nn.ConvTranspose2d) else rows
        gone = (~rows.flatten(1).any(1)).nonzero().flatten().tolist()
        if gone and len(gone) < len(rows):
            graph.get_pruning_group(root, group[0].dep.handler, gone).prune()
    return small


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("kind", "last"), [("projection", "fc"), ("sigmoids", "out")])
@pytest.mark.parametrize(
    "control", [None, *(pytest.param(name, marks=pytest.mark.slow) for name in ("shuffle", "invert", "random"))]
)
def test_cutting_out_the_removed_channels_changes_nothing(kind: str, last: str, mode: str, control: str | None) -> None:
    model = network(kind)
    mask = found(model, control=control)
    mask.apply(model)
    small = cut(model, mask, last)
    weights = [sum(p.numel() for p in net.parameters()) for net in (small, model)]
    assert weights[0] < 0.75 * weights[1]
    model.train(mode == "train")
    small.train(mode == "train")
    with torch.no_grad():
        assert torch.allclose(model(INPUTS), small(INPUTS), atol=1e-5)


@pytest.mark.parametrize("kind", ["projection", "padding", "sigmoids"])
def test_counts_are_exact_and_the_layers_that_share_channels_agree(kind: str) -> None:
    model = network(kind)
    mask = found(model)
    receipt = mask.receipt()
    units = sum(layer.units for layer in receipt.layers)
    assert receipt.units_kept == receipt.units_asked == int(units * 0.5 + 0.5)
    assert mask.held
    last = list(mask)[-1]
    assert bool(mask[last].any(1).all()), "every output of the last layer stays"
    if kind == "projection":
        # The first convolution, and those that add to the same stream.
        rows = {name: mask[f"{name}.weight"].flatten(1).any(1) for name in ("conv", "stage1.0.conv2", "stage1.1.conv2")}
        assert torch.equal(rows["conv"], rows["stage1.0.conv2"])
        assert torch.equal(rows["conv"], rows["stage1.1.conv2"])
        assert torch.equal(mask.held["bn.bias"], rows["conv"])


def test_channels_padded_behind_a_narrower_stream_are_the_same_channels() -> None:
    model = network("padding")
    mask = found(model, sparsity=0.25)
    mask.apply(model)
    narrow = mask["conv.weight"].flatten(1).any(1)
    wide = mask["stage3.0.conv2.weight"].flatten(1).any(1)
    assert torch.equal(wide[: len(narrow)], narrow)
    seen: list[Tensor] = []
    handle = model.get_submodule("fc").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(INPUTS)
    handle.remove()
    assert bool((seen[0][:, ~wide] == 0).all())


def test_a_later_round_stays_within_an_earlier_one() -> None:
    model = network("projection")
    first = found(model)
    second = prune_search.next_level(first, model, 0.4, granularity="channel", criterion="l1", example_input=INPUTS)
    assert all(not bool((second[name] & ~first[name]).any()) for name in first)
    left = first.receipt().units_kept
    assert second.receipt().units_kept == int(0.6 * left + 0.5)


class FrontPadding(nn.Module):
    """A shortcut that pads in front of the channels: Torch-Pruning's coupling by index is wrong for it."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(3, 4, 3, padding=1)
        self.wide = nn.Conv2d(4, 8, 3, padding=1)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        x = self.wide(x) + nn.functional.pad(x, (0, 0, 0, 0, 2, 2))
        return self.out(x.mean((2, 3)))  # type: ignore[no-any-return]


class Ordered(nn.Module):
    """A running sum over the channels: none can go without changing those behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.first(x).cumsum(1).mean((2, 3)))  # type: ignore[no-any-return]


def test_channels_that_cannot_be_followed_are_refused_and_not_guessed() -> None:
    with pytest.raises(UserError, match="no set of channels that can be removed as a whole") as refused:
        found(Ordered())
    assert "cumsum depends on the order of its units" in str(refused.value)


class Heads(nn.Module):
    """Attention of four heads, with layers of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(24, 16), nn.Linear(16, 4)
        self.q, self.k, self.v, self.joined = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.reshape(len(x), 8, 24))
        query, key, value = (one(x).view(len(x), 8, 4, 4).transpose(1, 2) for one in (self.q, self.k, self.v))
        scores = (query @ key.transpose(-2, -1) * 0.5).softmax(-1)
        return self.out(self.joined((scores @ value).transpose(1, 2).reshape(len(x), 8, 16)).mean(1))  # type: ignore[no-any-return]


def test_channels_of_attention_go_by_heads_or_in_equal_numbers_of_each_and_in_all_its_layers() -> None:
    torch.manual_seed(0)
    mask = found(Heads(), scope="uniform")
    kept = mask["q.weight"].any(1)
    assert kept.reshape(4, 4).sum(1).tolist() in ([2, 2, 2, 2], [0, 0, 4, 4])
    assert all(torch.equal(mask[f"{name}.weight"].any(1), kept) for name in "kv")


def test_where_torch_pruning_is_wrong_the_graph_is_read() -> None:
    torch.manual_seed(0)
    model = FrontPadding()
    mask = found(model, scope="uniform")
    rows = {name: mask[name].flatten(1).any(1) for name in ("narrow.weight", "wide.weight")}
    assert torch.equal(rows["wide.weight"][2:6], rows["narrow.weight"])
    assert int(rows["narrow.weight"].sum()) == 2


class Gated(nn.Module):
    """Half of a layer's outputs gate the other half, behind a branch in Python that torch.export does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(3 * 8 * 8, 12), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x.flatten(1)).chunk(2, 1)
        if float(value.detach().abs().max()) < 0:
            value = -value
        return self.out(value * torch.sigmoid(gate))  # type: ignore[no-any-return]


def test_channels_that_go_in_groups_are_found_where_torch_export_cannot_follow() -> None:
    torch.manual_seed(0)
    model = Gated().eval()
    mask = found(model)["both.weight"].any(1)
    assert int(mask.sum()) == 6
    assert torch.equal(mask[:6], mask[6:])


def test_one_of_many_sets_checked_together_that_does_not_become_constant_is_noticed() -> None:
    model = network("padding")
    first, *rest = channels.coupled_channels(model, frozenset(["head.weight"]), INPUTS)
    assert rest
    assert channels._constant_when_zero(model, [first, *rest], INPUTS)
    # What reads the set is not zeroed with it.
    torn = replace(first, claims=tuple(claim for claim in first.claims if claim.role == "reader"))
    assert not channels._constant_when_zero(model, [*rest, torn], INPUTS)


def test_a_set_with_channels_that_own_nothing_is_left_to_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch-Pruning has such sets of attention with partly rotated queries (GLM-4): their scores are not numbers."""
    model = network("padding")
    whole = channels.coupled_channels(model, frozenset(["head.weight"]), INPUTS)
    twice = [replace(one, size=2 * one.size, claims=tuple(_first_half(claim) for claim in one.claims)) for one in whole]
    assert all(map(channels._all_owned, whole))
    assert not any(map(channels._all_owned, twice))
    monkeypatch.setattr(channels, "channels_of", lambda *_: twice[0])
    groups = channels._by_torch_pruning(model, frozenset(["head.weight"]), INPUTS)
    assert not groups.sets
    assert set(groups.reasons.values()) == {channels.UNOWNED}


def _first_half(claim: Claim) -> Claim:
    return replace(claim, at=torch.arange(len(claim.index)) if claim.at is None else claim.at)


def test_without_an_example_channels_are_refused() -> None:
    with pytest.raises(UserError, match="needs an example input"):
        prune_search.find_mask(network("projection"), "l1", 0.5, granularity="channel")


REFERENCES = {
    "l1": lambda tp: tp.MagnitudeImportance(p=1),
    "magnitude": lambda tp: tp.MagnitudeImportance(p=1),
    "l2": lambda tp: tp.MagnitudeImportance(p=2),
    "lamp": lambda tp: tp.LAMPImportance(),
    "fpgm": lambda tp: tp.FPGMImportance(),
    "batchnorm-scale": lambda tp: tp.BNScaleImportance(),
    "taylor": lambda tp: tp.TaylorImportance(),
}


@pytest.mark.parametrize("criterion", REFERENCES)
def test_group_scores_are_those_of_torch_pruning(criterion: str) -> None:
    model = network("projection")
    nn.functional.cross_entropy(model(INPUTS), LABELS).backward()  # type: ignore[no-untyped-call]
    names = {module: name for name, module in model.named_modules()}
    graph = torch_pruning.DependencyGraph().build_dependency(model, INPUTS)
    groups = list(graph.get_all_groups([model.get_submodule("fc")]))
    ours = prune_search.group_scores(model, criterion, INPUTS)
    importance = REFERENCES[criterion](torch_pruning.importance)
    for group in groups:
        score = ours[f"{names[group[0].dep.target.module]}.weight"]
        assert torch.allclose(score.double(), importance(group).double(), rtol=1e-5)
    assert "fc.weight" not in ours
    given = prune_search.group_scores(model, criterion, INPUTS, batches=[(INPUTS, LABELS)])
    assert all(torch.allclose(given[name], score, rtol=1e-4) for name, score in ours.items())


@pytest.mark.parametrize("criterion", ["taylor", "fpgm", "snip"])
def test_a_mask_of_channels_can_follow_torch_pruning_s_conventions(criterion: str) -> None:
    """The highest of the scores that group_scores gives, which are Torch-Pruning's."""
    model = network("projection")
    batches = [(INPUTS, LABELS), (INPUTS.flip(0) * 0.5, LABELS)]
    granularity = {"name": "channel", "convention": "torch-pruning"}
    mask = prune_search.find_mask(model, criterion, 0.5, "uniform", granularity, batches=batches)
    scores = prune_search.group_scores(model, criterion, INPUTS, batches=batches)
    pruned = [name for name, one in mask.items() if not bool(one.flatten(1).any(1).all())]
    assert pruned
    for name in pruned:
        kept = mask[name].flatten(1).any(1)
        count = int(kept.sum())
        assert kept.nonzero().flatten().tolist() == sorted(scores[name].topk(count).indices.tolist())


def test_a_filter_s_bias_and_batch_norm_go_with_it() -> None:
    model = network("sigmoids")
    mask = prune_search.find_mask(model, "l1", 0.5, scope="uniform", granularity="filter", example_input=INPUTS)
    mask.apply(model)
    for layer, values in (("first", "first.bias"), ("up", "norm.weight"), ("up", "norm.bias"), ("up", "up.bias")):
        rows = mask[f"{layer}.weight"]
        kept = (rows.transpose(0, 1) if layer == "up" else rows).flatten(1).any(1)
        assert torch.equal(model.get_parameter(values) != 0, kept)
