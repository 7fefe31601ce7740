"""The library face on networks that hooks do not see, ties, recurrent layers, integers and what is refused."""

from __future__ import annotations

import copy
import warnings
from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from grown_networks import Block, Conv1D
from torch import Tensor, nn
from torch.nn.utils import prune

from prune_search import Dynamics, GrowingPenalty, ScoreError, UserError, find_mask, layer_costs, score
from prune_search.compact.metrics import sizes
from prune_search.recipe import axes

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 5
IDS = torch.randint(20, (8, 6), generator=torch.Generator().manual_seed(1))
pytestmark = pytest.mark.filterwarnings("ignore:.*are not pruned")


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
    )


def compiled(model: nn.Module) -> nn.Module:
    made: Any = torch.compile(model, backend="eager")
    assert isinstance(made, nn.Module)
    return made


class Wrapped(nn.Module):
    """A network with a compiled part."""

    def __init__(self) -> None:
        super().__init__()
        net = plain()
        self.body, self.head = compiled(net[:6]), net[6]

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x))
        return scores


def in_place() -> nn.Module:
    model = plain()
    model.compile(backend="eager")
    return model


COMPILED: dict[str, Callable[[], nn.Module]] = {
    "whole": lambda: compiled(plain()),
    "part": Wrapped,
    "in place": in_place,
    "parallel": lambda: nn.DataParallel(plain()),
}


@pytest.mark.parametrize("ran", [False, True])
@pytest.mark.parametrize("how", COMPILED)
def test_a_network_has_the_same_masks_however_it_is_wrapped(how: str, ran: bool) -> None:
    for criterion, granularity in (("l1", "filter"), ("l1", "channel"), ("wanda", "weight"), ("synflow", "weight")):
        model = COMPILED[how]()
        if ran:
            model(X)
            torch.manual_seed(0)
            model.load_state_dict(COMPILED[how]().state_dict())
        asked: dict[str, Any] = {"granularity": granularity, "batches": [(X, Y)]}
        masks = find_mask(model, criterion, 0.5, **asked)
        wanted = find_mask(plain(), criterion, 0.5, **asked)
        assert all(torch.equal(one, other) for one, other in zip(masks.values(), wanted.values(), strict=True))
        assert set(masks) <= set(dict(model.named_parameters()))
        masks.apply(model)


class Tied(nn.Module):
    """A language model: its head is its embedding; two layers between them are one."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(20, 8)
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.b(F.relu(self.a(self.emb(x)))).mean(1))
        return scores


def test_a_tied_weight_has_the_name_that_named_parameters_gives_it_and_answers_to_the_others() -> None:
    model = Tied()
    mask = find_mask(model, "snip", 0.5, batches=[(IDS, Y)])
    assert list(mask) == ["a.weight", "emb.weight"]
    mask.apply(model)
    assert int((model.head.weight == 0).sum()) == int((~mask["emb.weight"]).sum()) > 0
    for name in ("head", "head.weight", "emb"):
        spared = find_mask(model, "magnitude", 0.5, scope={"name": "global", "exclude": [name]})
        assert bool(spared["emb.weight"].all())
        assert list(score("magnitude", model, parameters=[name])) == ["emb.weight"]
    rows = find_mask(model, "l1", 0.5, granularity="filter", batches=[(IDS, Y)])
    assert bool(rows["emb.weight"].all())
    # The rows of a shared weight are outputs of both layers: both biases go with them.
    assert set(rows.held) == {"a.bias", "b.bias"}


def test_operations_of_what_no_hook_sees_are_counted() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    costs = layer_costs(layer, torch.randn(2, 8, 16))
    assert costs["self_attn.in_proj_weight"] == 2 * 48 * 16 * 8
    assert costs["self_attn.out_proj.weight"] == 2 * 16 * 16 * 8
    rnn = nn.LSTM(8, 16, 2, batch_first=True)
    assert layer_costs(rnn, torch.randn(2, 5, 8)) == {
        "weight_ih_l0": 2 * 64 * 8 * 5,
        "weight_hh_l0": 2 * 64 * 16 * 5,
        "weight_ih_l1": 2 * 64 * 16 * 5,
        "weight_hh_l1": 2 * 64 * 16 * 5,
    }
    assert all(value > 0 for value in layer_costs(layer, torch.randn(2, 8, 16), "latency").values())


class Cosine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.i, self.o = nn.Linear(12, 8), nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(self.i(x)), self.o.weight)


def test_a_functional_layer_is_scored_by_its_inputs_and_its_latency_is_refused() -> None:
    torch.manual_seed(0)
    model, twin = Cosine(), nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5, bias=False))
    twin.load_state_dict({"0.weight": model.i.weight, "0.bias": model.i.bias, "2.weight": model.o.weight})
    x = torch.randn(8, 12)
    ours, wanted = (score("wanda", net, [(x, Y)]) for net in (model, twin))
    assert torch.allclose(ours["o.weight"], wanted["2.weight"])
    with pytest.raises(UserError, match=r"latency of o\.weight cannot be measured"):
        layer_costs(model, x, "latency")
    with pytest.raises(ScoreError, match=r"o\.weight is not"):
        score("output-reconstruction", model, [(x, Y)])


def test_wanda_of_recurrent_layers_is_that_of_what_they_multiply() -> None:
    torch.manual_seed(0)
    model = nn.GRU(4, 3, batch_first=True)
    x = torch.randn(5, 6, 4)
    found = score("wanda", model, [(x, Y[:5])], loss=lambda out, _: out[0].sum())
    wanted = model.get_parameter("weight_ih_l0").detach().double().abs() * x.double().square().sum((0, 1)).sqrt()
    assert torch.allclose(found["weight_ih_l0"], wanted)
    states = torch.cat([torch.zeros(5, 1, 3), model(x)[0][:, :-1].detach()], 1).double()
    hidden = model.get_parameter("weight_hh_l0").detach().double().abs() * states.square().sum((0, 1)).sqrt()
    assert torch.allclose(found["weight_hh_l0"], hidden)


def test_what_recurrent_layers_attention_and_transformers_have_takes_part() -> None:
    attention = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2, kdim=3, vdim=2)
    model = nn.ModuleList([nn.LSTM(4, 4, proj_size=2), nn.GRUCell(4, 3), *attention, Conv1D(6, 4)])
    mask = find_mask(model, "magnitude", 0.5)
    matrices = [name for name, parameter in model.named_parameters() if parameter.dim() > 1]
    assert sorted(mask) == sorted(matrices)
    assert mask.receipt().left_out == ()


def test_outputs_of_transformers_layers_are_columns_of_their_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Conv1D(8, 12), nn.ReLU(), nn.Linear(8, 5))
    mask = find_mask(model, "l1", 0.5, granularity="filter", batches=[(torch.randn(4, 12), Y[:4])])
    sums = model[0].get_parameter("weight").detach().abs().sum(0)
    assert torch.equal(mask["0.weight"].all(0), sums >= sums.sort().values[4])
    assert torch.equal(mask["0.weight"].any(0), mask.held["0.bias"])


def by_torch(layer: nn.Module) -> nn.Module:
    pruned: nn.Module = prune.identity(layer, "weight")  # type: ignore[no-untyped-call]
    return pruned


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.jit.trace(nn.Linear(4, 4), torch.ones(1, 4))  # type: ignore[no-untyped-call]
    return made


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "weight: computed from other"),
    "spectral norm": (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))), r"0\.weight: computed from"),
    "recurrent": (lambda: nn.utils.parametrizations.weight_norm(nn.LSTM(4, 4), "weight_hh_l0"), "weight_hh_l0: comp"),
    "torch's pruning": (lambda: by_torch(nn.Linear(4, 4)), "prune.remove"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()), r"0\.weight.*run it on an example"),
    "scripted": (lambda: nn.Sequential(traced(), nn.Linear(4, 4)), "0: compiled by torch.jit"),
    "nothing": (nn.ReLU, "no parameters at all"),
    "nothing to prune": (lambda: nn.LayerNorm(4), r"its parameters: weight, bias"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_networks_that_no_mask_can_be_found_for_are_refused_by_name(what: str) -> None:
    make, match = REFUSED[what]
    for call in (find_mask, lambda model, *_: score("magnitude", model)):
        with pytest.raises(UserError, match=match) as told:
            call(make(), "magnitude", 0.5)
        assert "\n" not in str(told.value)


def test_synflow_says_that_token_ids_are_not_its_kind_of_input() -> None:
    with pytest.raises(ScoreError, match="synflow sends an input of ones"):
        find_mask(Tied(), "synflow", 0.5, batches=[(IDS, Y)])


class Several(nn.Module):
    """Token ids and features, however they are given."""

    def __init__(self, pick: Callable[[Any], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pick = pick
        self.emb, self.a, self.b = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8 + 4, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, inputs: Any) -> Tensor:
        ids, features = self.pick(inputs)
        h = F.relu(self.a(self.emb(ids))).mean(1)
        scores: Tensor = self.head(F.relu(self.b(torch.cat([h, features], 1))))
        return scores


class Encoding(UserDict[str, Tensor]):
    """As tokenizers return their batches."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.data[name]
        except KeyError as error:
            raise AttributeError(name) from error


GIVEN: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "mapping": (lambda ids, x: {"ids": ids, "x": x}, lambda given: (given["ids"], given["x"])),
    "nested": (lambda ids, x: ({"ids": ids}, [x]), lambda given: (given[0]["ids"], given[1][0])),
    "encoding": (lambda ids, x: Encoding(ids=ids, x=x), lambda given: (given.ids, given["x"])),
    "floats": (lambda ids, x: torch.cat([ids.float(), x], 1), lambda given: (given[:, :6].long(), given[:, 6:])),
}


def test_inputs_may_be_of_any_structure() -> None:
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    found: dict[str, list[Any]] = {}
    for how, (pack, pick) in GIVEN.items():
        batches = [(pack(IDS, features), Y)]
        asked = (("snip", "weight"), ("wanda", "weight"), ("l1", "filter"), ("l1", "channel"), ("taylor", "weight"))
        for criterion, granularity in asked:
            if how == "floats" and granularity == "channel":
                continue  # other numbers beside them are no ids
            model = Several(pick)
            mask = find_mask(model, criterion, 0.5, "uniform", granularity, batches=batches)
            found.setdefault(f"{criterion} {granularity}", []).append((mask.sha256, mask.held.keys()))
            assert bool(mask["head.weight"].any(1).all())
        assert all(value > 0 for value in layer_costs(Several(pick), batches[0][0], "latency").values())
        assert sizes(model, mask, batches[0][0])["sparse flops"] > 0
    assert all(len(set(map(str, one))) == 1 for one in found.values())


def test_weights_that_no_batch_uses_are_named_where_inputs_are_looked_at() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "unused": nn.Linear(4, 4)})
    model.forward = lambda x: model["a"](x)
    batches = [(torch.randn(8, 4), Y % 4)]
    for criterion in ("wanda", "output-reconstruction"):
        with pytest.raises(ScoreError, match=r"no batch uses unused\.weight"):
            find_mask(model, criterion, 0.5, batches=batches)
        find_mask(model, criterion, 0.5, scope={"name": "global", "exclude": ["unused"]}, batches=batches)


def test_synflow_takes_networks_with_several_outputs() -> None:
    torch.manual_seed(0)
    body, heads = nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    outputs: list[Callable[[Any, Tensor], Any]] = [
        lambda m, x: {"scores": m.heads[0](m.body(x)), "more": [m.heads[1](m.body(x)), None]},
        lambda m, x: torch.cat([head(m.body(x)) for head in m.heads], 1),
    ]
    found = [
        score("synflow", Block(run, {"body": body, "heads": heads}), example_input=X[0, 0, :4, :4]) for run in outputs
    ]
    assert all(torch.allclose(found[0][name], found[1][name]) for name in found[1])


def test_layers_that_no_pass_shows_may_make_outputs_and_lose_none() -> None:
    model = Several(lambda given: given)
    model.add_module("aux", nn.Linear(8, 3))
    batches = [((IDS, torch.randn(8, 4)), Y)]
    for granularity in ("filter", "channel"):
        mask = find_mask(model, "l1", 0.5, "uniform", granularity, batches=batches)
        reasons = {one.name: one.reason for one in mask.receipt().left_out}
        assert bool(mask["aux.weight"].all())
        assert reasons["aux.weight"] == "a forward pass on the example does not use it"


def test_no_output_goes_whose_bias_a_mask_cannot_hold() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))
    prune.l1_unstructured(model[0], "bias", 0.5)  # type: ignore[no-untyped-call]
    batches = [(torch.randn(8, 4), Y)]
    mask = find_mask(model, "l1", 0.5, "uniform", "filter", batches=batches)
    assert bool(mask["0.weight"].all())
    assert int(mask["2.weight"].any(1).sum()) == 4
    assert "bias" in dict(mask.left_out)["0.weight"]
    assert int((score("wanda", model, batches)["0.weight"] > 0).sum()) == 32


class Always(nn.Module):
    """Dropout as a function, which does not know of evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


def test_networks_that_always_drop_something_have_channels() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), Always(), nn.Linear(8, 5))
    mask = find_mask(model, "l1", 0.5, granularity="channel", batches=[(torch.randn(8, 4), Y)])
    assert int(mask["0.weight"].any(1).sum()) == 4


@pytest.mark.filterwarnings("default:.*are not pruned")
@pytest.mark.parametrize("what", ["Dynamics", "GrowingPenalty"])
def test_what_moves_a_mask_warns_of_what_takes_no_part_too(what: str) -> None:
    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(48, 8), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    calls: dict[str, Callable[[], object]] = {
        "Dynamics": lambda: Dynamics("gradual", model, optimizer, sparsity=0.9, begin=0, end=20, every=5),
        "GrowingPenalty": lambda: GrowingPenalty(model, optimizer, sparsity=0.5, example_input=IDS),
    }
    with pytest.warns(UserWarning, match=r"of the parameters are not pruned.*0\.weight") as told:
        calls[what]()
    assert {str(one.filename) for one in told} == {__file__}


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def test_channels_of_a_network_of_token_ids_are_found_on_ids() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 8), nn.ReLU(), Mean(), nn.Linear(8, 5))
    for ids in (IDS, torch.full((4, 6), 19)):
        mask = find_mask(copy.deepcopy(model), "l1", 0.5, granularity="channel", batches=[(ids, Y[: len(ids)])])
        assert int(mask["1.weight"].any(1).sum()) == 4


class Residual(nn.Module):
    """Two widths; the first is that of a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.c = nn.Conv2d(3, 24, 3), nn.Conv2d(24, 40, 1)
        self.a, self.b = nn.Conv2d(24, 32, 3, padding=1), nn.Conv2d(32, 24, 3, padding=1)
        self.act, self.pool, self.flat = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(40, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.stem(x))
        h = self.act(h + self.b(self.act(self.a(h))))
        scores: Tensor = self.head(self.flat(self.pool(self.act(self.c(h)))))
        return scores


def residual_20() -> nn.Module:
    torch.manual_seed(0)
    settings = {"width": 8, "shortcut": "projection", "residual_scale": "none"}
    return axes.MODELS["resnet-20"].make((3, 8, 8), 5, **settings)


@pytest.mark.parametrize("make", [Residual, pytest.param(residual_20, marks=pytest.mark.slow)])
def test_a_budget_of_operations_is_what_the_compact_network_has(make: Callable[[], nn.Module]) -> None:
    for share in (0.3, 0.5, 0.8):
        model = make().eval()
        scope = {"name": "knapsack", "budget": {"flops": share}, "levels": 6}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of so small a network a unit can be more than the budget's last percent
            mask = find_mask(model, "l1", scope=scope, granularity="channel", batches=[(X, Y)])
        mask.apply(model)
        found = sizes(model, mask, X[:1])
        assert 0.96 * share <= found["compact flops"] / found["dense flops"] <= 1.001 * share


def test_of_equal_losses_the_least_is_pruned() -> None:
    model = plain().eval()
    scope = {"name": "knapsack", "budget": {"parameters": 0.4}}
    mask = find_mask(model, "magnitude", scope=scope, batches=[(X, Y)], loss=lambda out, _: 0.0 * out.sum())
    assert mask.sparsity() == pytest.approx(0.6, abs=0.005)


def test_the_metric_of_all_parameters_counts_those_that_are_never_pruned() -> None:
    from prune_search.tasks.metrics import Measured

    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(48, 4))
    mask = find_mask(model, "magnitude", 0.5)
    measured = Measured(masks=mask, load=lambda: model)
    assert axes.METRICS["sparsity/all_parameters"].make(measured) == pytest.approx(96 / 356)
