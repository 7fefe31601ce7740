"""Units of transformers: heads, hidden neurons and the width of the stream from the graph; blocks; experts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from prune_search.pruning.mask.granularities.channel import COUPLED
from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.facts import Granularity

if TYPE_CHECKING:
    from torch import Tensor


def _find(kind: str, model: Any, left_out: frozenset[str], example: Any) -> object:
    from prune_search.pruning.mask.network_units import units_of_kind

    return units_of_kind(kind, model, left_out, example)


def _find_blocks(model: Any, left_out: frozenset[str], example: Any) -> object:
    from prune_search.pruning.mask.network_units import residual_blocks

    return residual_blocks(model, left_out, example)


def _find_experts(model: Any, left_out: frozenset[str], example: Any) -> object:
    from prune_search.pruning.mask.expert_units import experts_of

    return experts_of(model, left_out, example)


def _facts(find: Callable[..., object]) -> Granularity:
    return Granularity(
        output_layer=False, structured=True, coupled=True, by_channels=True, find=find, default_model="small-vit"
    )


@GRANULARITIES.register(
    "head",
    summary="attention heads; heads of queries that share keys and values go together with them",
    source="Michel, Levy & Neubig 2019, Are Sixteen Heads Really Better than One?, 1905.10650",
    options=COUPLED,
    facts=_facts(partial(_find, "head")),
)
def head(
    tensor: Tensor, *, over: str = "mean", scale: str = "mean", multiple: int = 1, convention: str = "papers"
) -> Tensor:
    """The rows of a weight as [rows, weights of a row]; `network_units.units_of_kind` says which make a head.

    A head owns its rows of queries, keys and values with their biases, and its columns of the layer that mixes heads.
    Scores are joined as those of channels are (`channel`).
    """
    del over, scale, multiple, convention
    return tensor.reshape(tensor.shape[0], -1)


@GRANULARITIES.register(
    "neuron",
    summary="hidden neurons between linear layers or 1x1 convolutions; both rows of gated ones",
    source="Ma, Fang & Wang 2023, LLM-Pruner, 2305.11627",
    options=COUPLED,
    facts=_facts(partial(_find, "neuron")),
)
def neuron(
    tensor: Tensor, *, over: str = "mean", scale: str = "mean", multiple: int = 1, convention: str = "papers"
) -> Tensor:
    """The rows of a weight as [neurons, weights of a neuron]; layers whose outputs are multiplied share theirs.

    What the width of a residual stream or a head is made of takes no part. Scores are joined as those of channels are.
    """
    del over, scale, multiple, convention
    return tensor.reshape(tensor.shape[0], -1)


@GRANULARITIES.register(
    "width",
    summary="dimensions of a residual stream, in every layer that reads or writes it; norms count removed ones as 0",
    source="Muralidharan et al. 2024, Minitron, 2407.14679, section 3",
    options=COUPLED,
    facts=_facts(partial(_find, "width")),
)
def width(
    tensor: Tensor, *, over: str = "mean", scale: str = "mean", multiple: int = 1, convention: str = "papers"
) -> Tensor:
    """The rows of a weight as [dimensions, weights of a dimension], coupled through embeddings, norms and all blocks.

    Layer and RMS norms go on taking their statistics over all places, the removed ones as the zeros that they are: so
    the smaller network has the masked one's outputs. With k of n places left, its mean of squares is k/n of a plain
    norm's of that width.
    """
    del over, scale, multiple, convention
    return tensor.reshape(tensor.shape[0], -1)


@GRANULARITIES.register(
    "depth",
    summary="whole residual blocks: what is left of a removed one is its skip connection",
    source="Men et al. 2024, ShortGPT, 2403.03853",
    options={key: option for key, option in COUPLED.items() if key != "multiple"},
    facts=_facts(_find_blocks),
)
def depth(tensor: Tensor, *, over: str = "mean", scale: str = "mean", convention: str = "papers") -> Tensor:
    """A weight as [1, weights]: it goes with all of its block (`network_units.residual_blocks`).

    A block's score is the mean (or sum, maximum, or the first) over its weights of their scores.
    """
    del over, scale, convention
    return tensor.reshape(1, -1)


@GRANULARITIES.register(
    "expert",
    summary="whole experts of a mixture: what routes to them leaves out removed ones; each block keeps what it chooses",
    source="Lu et al. 2024, Not All Experts are Equal, 2402.14800; Lasby et al. 2025, REAP the Experts, 2510.13999",
    options={key: option for key, option in COUPLED.items() if key != "multiple"},
    facts=Granularity(structured=True, coupled=True, by_channels=True, find=_find_experts, default_model="small-moe"),
)
def expert(tensor: Tensor, *, over: str = "mean", scale: str = "mean", convention: str = "papers") -> Tensor:
    """A weight as [1, weights], or of experts in one tensor as [experts, weights]; `expert_units` says which are one's.

    An expert owns its weights and biases and its row of the router. Removed, its logit counts as -inf: a softmax gives
    it 0, and a top-k picks among those that are left. So the masked network has the outputs of the one without it. A
    block keeps at least as many experts as its router chooses for a token. Scores are joined as those of blocks are
    (`depth`); the router's row plays no part in them.
    """
    del over, scale, convention
    return tensor.reshape(tensor.shape[0] if tensor.dim() == 3 else 1, -1)
