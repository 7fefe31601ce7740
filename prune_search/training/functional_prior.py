"""Priors over weights whose functions are like those of a Gaussian process: found by the Wasserstein distance.

Tran, Rossi, Milios, Filippone 2022, All You Need is a Good Functional Prior for Bayesian Deep Learning, 2011.12829. A
linear or convolution layer has weights σ_w · N(0, 1) / √fan-in and biases σ_b · N(0, 1). What is found are σ_w and σ_b
of every layer, or the inverse gamma distributions of their squares; everything else in the network stays as it is drawn
by others. The search uses inputs alone: no label is looked at.

It runs on the CPU with one thread, whatever device the network is on and whatever seed its weights are drawn from, so
that the same network, data and options always give the same prior.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from prune_search.recipe.problems import Problem, UserError
from prune_search.training.gaussian_processes import GaussianProcess
from prune_search.training.randomness import generator
from prune_search.training.wasserstein import CriticTraining, distance, trained_critic

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    from prune_search.lazy import torch

GAUSSIAN, HIERARCHICAL = "gaussian", "hierarchical"
# The stream of everything that the search draws, and the number it is seeded with: not the trial's seed.
STREAM, SEARCH_SEED = "functional-prior", 0
# Where the search begins, before the softplus: σ = 1.31, as in the released code.
BEGIN = 1.0
# Inputs that measurement points are taken from, and pairs of draws that a reported distance is the mean of.
POOL, REPEATS = 1000, 3
MAX_KNOWN = 32
_log = logging.getLogger("prune_search")


@dataclass(frozen=True)
class PriorSearch:
    """How the parameters of a prior are searched for.

    Attributes:
        process: the Gaussian process that the functions shall be like.
        prior: ``gaussian``, or ``hierarchical``: variances are drawn from inverse gamma distributions.
        points: inputs at which functions are compared, at most; drawn anew in every iteration.
        functions: networks that are drawn in every iteration; each output of one is a function.
        iterations: steps of RMSprop on the parameters.
        rate: its learning rate.
        critic: how the critic of an iteration is trained.
    """

    process: GaussianProcess = field(default_factory=GaussianProcess)
    prior: str = GAUSSIAN
    points: int = 20
    functions: int = 8
    iterations: int = 50
    rate: float = 0.05
    critic: CriticTraining = field(default_factory=CriticTraining)


@dataclass(frozen=True)
class Variance:
    """The prior variance of a layer's weights, times fan-in, or of its biases.

    Attributes:
        shape: of the inverse gamma distribution; None: the variance is known.
        rate: of it; where the shape is None, the variance itself.
    """

    rate: float
    shape: float | None = None

    @property
    def typical(self) -> float:
        """The variance, or 1 over the mean of 1 / variance: rate / shape."""
        return self.rate if self.shape is None else self.rate / self.shape

    def draw(self, source: torch.Generator) -> float:
        """A variance of this prior."""
        if self.shape is None:
            return self.rate
        gamma = torch._standard_gamma(torch.tensor([self.shape], dtype=torch.float64), generator=source)
        return self.rate / max(float(gamma), 1e-30)


@dataclass(frozen=True)
class FunctionalPrior:
    """The prior that was found.

    Attributes:
        variances: by the names of the network's parameters, in their order; of weights times fan-in.
        start: the distance before the first iteration.
        end: after the last one; both on the same fresh draws, with a critic of each.
        course: the estimate of each iteration, as it went.
        seconds: that it took.
    """

    variances: Mapping[str, Variance]
    start: float
    end: float
    course: tuple[float, ...]
    seconds: float

    def figures(self) -> dict[str, Any]:
        """As plain data: the distances, and the standard deviation σ of each parameter (of weights times √fan-in)."""
        found: dict[str, Any] = {}
        for name, variance in self.variances.items():
            shown = {"sigma": round(variance.typical**0.5, 6)}
            if variance.shape is not None:
                shown |= {"shape": round(variance.shape, 6), "rate": round(variance.rate, 6)}
            found[name] = shown
        return {"distance_start": self.start, "distance_end": self.end, "prior": found}


@dataclass(frozen=True)
class Layer:
    """A layer that has a prior.

    Attributes:
        weight: the name of its weight.
        bias: of its bias; None: it has none.
        fan_in: of the weight.
    """

    weight: str
    bias: str | None
    fan_in: int


def layers_of(model: nn.Module) -> list[Layer]:
    """The linear and convolution layers of a network, each parameter in the first that has it."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, Layer] = {}
    taken: set[str] = set()
    for module in model.modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.modules.conv._ConvNd):
            continue
        weight = names.get(module.weight)
        bias = None if module.bias is None else names.get(module.bias)
        if weight is not None and weight not in found:
            found[weight] = Layer(weight, None if bias in taken else bias, max(module.weight[0].numel(), 1))
            taken |= {bias} if bias is not None else set()
    return list(found.values())


class Parameters:
    """The parameters ψ of a prior while they are searched for: one or two numbers for each weight and each bias.

    Args:
        layers: that have a prior.
        prior: ``gaussian`` or ``hierarchical``.
    """

    def __init__(self, layers: list[Layer], prior: str) -> None:
        self.layers = layers
        self.hierarchical = prior == HIERARCHICAL
        names = [name for layer in layers for name in (layer.weight, layer.bias) if name is not None]
        width = 2 if self.hierarchical else 1
        self.raw = {name: torch.full((width,), BEGIN, requires_grad=True) for name in names}

    def deviations(self, name: str, functions: int, source: torch.Generator) -> Tensor:
        """Standard deviations [S], with a gradient for ψ: all the same, or drawn for every function."""
        positive = torch.nn.functional.softplus(self.raw[name])
        if not self.hierarchical:
            return positive.expand(functions)
        # 1 / variance is gamma distributed, and the draw has a gradient for its shape.
        gamma = torch._standard_gamma(positive[:1].expand(functions).double(), generator=source)
        return (positive[1] / gamma.clamp(min=1e-30)).sqrt().float()

    def draw(self, shapes: Mapping[str, torch.Size], functions: int, words: tuple[str | int, ...]) -> dict[str, Tensor]:
        """Weights and biases of S networks, [S, …] by name, with a gradient for ψ."""
        drawn = {}
        for layer in self.layers:
            for name, scale in ((layer.weight, layer.fan_in**-0.5), (layer.bias, 1.0)):
                if name is None:
                    continue
                source = generator(SEARCH_SEED, STREAM, *words, name)
                normal = torch.randn((functions, *shapes[name]), generator=source)
                deviation = scale * self.deviations(name, functions, source)
                drawn[name] = normal * deviation.reshape(-1, *[1] * len(shapes[name]))
        return drawn

    def found(self) -> dict[str, Variance]:
        """What ψ says of each parameter, rounded to six digits."""
        variances = {}
        for name, raw in self.raw.items():
            first, *rest = (float(f"{value:.6g}") for value in torch.nn.functional.softplus(raw.detach()).tolist())
            variances[name] = Variance(rest[0], first) if self.hierarchical else Variance(first**2)
        return variances


def functions_of(model: nn.Module, drawn: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """What networks of other weights make of some inputs.

    Args:
        model: on the CPU; its other parameters and its buffers are those of every network.
        drawn: weights of S networks by name, [S, …].
        inputs: [N, …].

    Returns:
        [S · outputs, N]: each output of each network is a function.

    Raises:
        UserError: the network cannot be run for many weights at once, or its output is no tensor [N, …].
    """

    def outputs(weights: dict[str, Tensor]) -> Tensor:
        made: Tensor = torch.func.functional_call(model, weights, (inputs,))
        return made

    try:
        found = torch.func.vmap(outputs)(dict(drawn))
        return found.reshape(*found.shape[:2], -1).transpose(1, 2).flatten(0, 1)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        text = "functional-prior runs a network for many draws of its weights at once, which this one does not take"
        raise UserError([Problem("train.init", f"{text}: {reason}")]) from error


@dataclass(frozen=True, eq=False)
class _Search:
    """One search for a prior.

    Attributes:
        model: a copy on the CPU, in evaluation mode; batch norms use the batch's own statistics.
        parameters: ψ.
        pool: inputs that measurement points are drawn from, [P, …].
        how: it is done.
    """

    model: nn.Module
    parameters: Parameters
    pool: Tensor
    how: PriorSearch

    def points(self, *words: str | int) -> Tensor:
        """Measurement points [N, …], drawn from the pool."""
        order = torch.randperm(len(self.pool), generator=generator(SEARCH_SEED, STREAM, *words, "points"))
        return self.pool[order[: self.how.points]]

    def pair(self, points: Tensor, *words: str | int) -> tuple[Tensor, Tensor]:
        """Functions of networks and of the process at some points, [S, N] each."""
        shapes = {name: self.model.get_parameter(name).shape for name in self.parameters.raw}
        drawn = self.parameters.draw(shapes, self.how.functions, words)
        ours = functions_of(self.model, drawn, points)
        source = generator(SEARCH_SEED, STREAM, *words, "process")
        return ours, self.how.process.draw(points, len(ours), source)

    def estimate(self, *words: str | int) -> Tensor:
        """The distance [], with a gradient for ψ: a critic is trained on one pair of draws and asked of another."""
        points = self.points(*words)
        with torch.no_grad():
            shown = self.pair(points, *words, "shown")
        critic = trained_critic(*shown, self.how.critic, generator(SEARCH_SEED, STREAM, *words, "critic"))
        return distance(critic, *self.pair(points, *words, "asked"))

    def reported(self) -> float:
        """The mean of a few estimates on draws that are the same whatever ψ is."""
        with _no_gradient_of(self.parameters):
            values = [float(self.estimate("reported", number)) for number in range(REPEATS)]
        return sum(values) / len(values)

    def run(self) -> FunctionalPrior:
        """Algorithm 1 of the paper: per iteration a fresh critic, then a step of RMSprop on ψ."""
        begun = time.monotonic()
        start = self.reported()
        optimizer = torch.optim.RMSprop(self.parameters.raw.values(), lr=self.how.rate)
        course = []
        for number in range(self.how.iterations):
            value = self.estimate(number)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            course.append(float(value.detach()))
        end = self.reported()
        return FunctionalPrior(self.parameters.found(), start, end, tuple(course), time.monotonic() - begun)


@contextlib.contextmanager
def _no_gradient_of(parameters: Parameters) -> Iterator[None]:
    for raw in parameters.raw.values():
        raw.requires_grad_(False)
    try:
        yield
    finally:
        for raw in parameters.raw.values():
            raw.requires_grad_(True)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whoever asks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_num_threads(threads)


# Priors that were found in this process, by what they depend on.
_KNOWN: OrderedDict[str, FunctionalPrior] = OrderedDict()


def find_prior(
    model: nn.Module,
    how: PriorSearch,
    inputs: Callable[[int], Any],
    settle: Callable[[nn.Module], None] = lambda model: None,
) -> FunctionalPrior:
    """The prior over a network's weights under which its functions are like those of a Gaussian process.

    Found once per process: the same network, inputs and options give the same prior without a search.

    Args:
        model: on any device; left as it is.
        how: the search is done.
        inputs: gives the inputs of training examples, [N, …] of floating point.
        settle: puts the parameters without a prior (of norms, say) where they shall be, in a copy.

    Raises:
        UserError: there is no layer with a prior, or neither the inputs nor the network fit.
    """
    from prune_search.tasks.passes import twin_of

    layers = layers_of(model)
    if not layers:
        raise UserError([Problem("train.init", "functional-prior needs a linear or convolution layer; there is none")])
    pool = inputs(POOL)
    if not isinstance(pool, torch.Tensor) or not pool.is_floating_point() or len(pool) == 0:
        text = "functional-prior compares functions of one tensor of real numbers, and the inputs here are another kind"
        raise UserError([Problem("train.init", text)])
    pool = pool.detach().cpu().float()
    twin = twin_of(model).cpu().float()
    settle(twin)
    torch.func.replace_all_batch_norm_modules_(twin.eval())
    twin.requires_grad_(False)
    key = _key(twin, how, pool)
    if key in _KNOWN:
        return _KNOWN[key]
    with _one_thread():
        found = _Search(twin, Parameters(layers, how.prior), pool, how).run()
    _KNOWN[key] = found
    while len(_KNOWN) > MAX_KNOWN:
        _KNOWN.popitem(last=False)
    _say(found, len(layers))
    return found


def _key(model: nn.Module, how: PriorSearch, pool: Tensor) -> str:
    from prune_search.tasks.network import forward_digest, network_digest

    about = [forward_digest(model), network_digest(model), json.dumps(asdict(how)), list(pool.shape)]
    return hashlib.sha256(json.dumps(about).encode() + pool.contiguous().numpy().tobytes()).hexdigest()


def _say(found: FunctionalPrior, layers: int) -> None:
    text = "functional-prior: the distance to the Gaussian process went from %.4g to %.4g; %d layers, %.1f s"
    _log.info(text, found.start, found.end, layers, found.seconds)
    if not found.end < found.start:
        _log.warning(
            "train.init: functional-prior: the distance to the Gaussian process did not fall (%.4g, then %.4g): "
            "give it more iterations, functions or critic_steps, or another gp",
            found.start,
            found.end,
        )
