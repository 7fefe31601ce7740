"""Writes a pruned network of transformers as a folder that ``AutoModel….from_pretrained`` opens without this package.

Where the configuration of the architecture can say the compact network's sizes, the folder holds the compact network;
else the whole one with its zeros, and it is said why. What was written is opened again and compared before it counts.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.compact.as_called import AsCalled
from prune_search.compact.config_sizes import (
    Architecture,
    Blocks,
    InexpressibleError,
    blocks_left,
    fits,
    renumbered,
    with_values,
)
from prune_search.compact.experts import Cut, without_experts
from prune_search.compact.file_names import HUGGING_FACE_FOLDER
from prune_search.compact.from_graph import Smaller
from prune_search.exports.onnx_file import relative_difference
from prune_search.recipe.blocks import UserCode
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.recipe import Recipe
from prune_search.tasks.batches import adapted, named_tensors
from prune_search.tasks.kinds.hugging_face import AUTO, quiet
from prune_search.tasks.kinds.packages import package
from prune_search.tasks.kinds.tokenizers import BYTES, CHARACTERS, of_hugging_face
from prune_search.tasks.outputs import logits_of
from prune_search.tasks.passes import unwrapped
from prune_search.tasks.raised import as_user_error
from prune_search.tasks.structures import some_examples

_log = logging.getLogger("prune_search")
# Of the largest output; sums over fewer terms are taken in another order.
TOLERANCE = 1e-5
EXAMPLES = 4
# What is added to the mean of squares, as configurations call it.
EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")


@dataclass(frozen=True, eq=False)
class Saved:
    """What lies in the folder.

    Attributes:
        auto: the class of transformers that opens it.
        config: values of the configuration that are others than the whole network's: before and after.
        parameters: of the network in it.
        bytes: of its weights' files.
        apart: the largest difference of its outputs from the compact network's, relative to the largest output.
        whole: why it holds the whole network with zeros; empty where it holds the compact one.
    """

    auto: str
    config: Mapping[str, tuple[int, int]]
    parameters: int
    bytes: int
    apart: float
    whole: str = ""

    def as_data(self) -> dict[str, Any]:
        """What metrics.json says of it."""
        changed = {name: list(pair) for name, pair in self.config.items()}
        sizes = {"parameters": self.parameters, "bytes": self.bytes, "outputs_apart": self.apart}
        return {"class": self.auto, "config": changed, **sizes, "whole": self.whole}


def class_of(model: nn.Module) -> type[nn.Module] | None:
    """The class of transformers that a network is of; None where it is of none, or of one that a user derived."""
    kind = type(unwrapped(model))
    if kind.__dict__.get("_takes_inputs"):
        kind = kind.__bases__[0]
    return kind if kind.__module__.startswith("transformers.") and hasattr(kind, "from_pretrained") else None


def save(
    model: nn.Module,
    small: Smaller | None,
    inputs: Any,
    folder: Path,
    tokenizer: Callable[[Path], None] | None = None,
) -> Saved | None:
    """Write the folder ``huggingface`` of a network.

    Args:
        model: the finished network, its masks applied, in evaluation mode, on the CPU.
        small: its compact form; None where it has none.
        inputs: some examples, [N, …] or `Inputs`.
        folder: that the folder is made in.
        tokenizer: writes the files of the task's tokenizer into a folder; None where it has none.

    Returns:
        What was written; None where the network is none of transformers, or a forward of the user's takes the batch
        apart: what it is called with is not known then. None too, with a warning, where experts were removed and the
        configuration cannot say how many each block has left: the whole network's class would route to their zeros.

    Raises:
        UserError: what was written computes something else.
    """
    kind = class_of(model)
    if kind is None or getattr(type(unwrapped(model)), "_own_forward", False):
        return None
    there = folder / HUGGING_FACE_FOLDER
    inputs = some_examples(inputs, slice(EXAMPLES))
    with _quietly():
        try:
            network, changed, whole = _network(kind, unwrapped(model), small, inputs)
        except InexpressibleError as error:
            _log.warning("no folder %s: its class cannot leave out single experts, and %s", HUGGING_FACE_FOLDER, error)
            return None
        network.save_pretrained(str(there))  # type: ignore[operator]
        if tokenizer is not None:
            tokenizer(there)
        again: Any = kind.from_pretrained(str(there), local_files_only=True)  # type: ignore[attr-defined]
    reference = model if small is None or whole else AsCalled(small).eval()
    apart = _apart(again.eval(), model, reference, inputs)
    if not apart <= TOLERANCE:
        text = f"what was written there differs by {apart:.1e} of the largest output, more than {TOLERANCE:.0e}"
        raise UserError([Problem("", text, str(there))])
    parameters = sum(parameter.numel() for parameter in again.parameters())
    size = sum(path.stat().st_size for path in there.glob("*.safetensors"))
    return Saved(_auto_name(kind, again.config), changed, parameters, size, apart, whole)


def tokenizer_of(recipe: Recipe, root: Path | None) -> Callable[[Path], None] | None:
    """What writes the files of the tokenizer that a recipe's data set names; None where it names none with files.

    Args:
        recipe: of the network.
        root: the folder of --data-root, or None.

    Raises:
        UserError: the tokenizer cannot be read.
    """
    data = recipe.task.data
    written = None if isinstance(data, UserCode) else data.options.get("tokenizer")
    if not isinstance(written, str) or written in (BYTES, CHARACTERS):
        return None
    raw = of_hugging_face(written, root).raw
    if hasattr(raw, "save_pretrained"):
        return lambda folder: raw.save_pretrained(str(folder))
    return lambda folder: raw.save(str(folder / "tokenizer.json"))


def _network(
    kind: type[nn.Module], model: nn.Module, small: Smaller | None, inputs: Any
) -> tuple[nn.Module, Mapping[str, tuple[int, int]], str]:
    """The network that is written, what is other in its configuration, and why it is the whole one.

    Raises:
        InexpressibleError: experts were removed, and the configuration cannot say it.
    """
    cut = without_experts(model, inputs)
    if cut is not None:
        return *_fewer_experts(kind, cut, small, inputs), ""
    whole = "nothing could be cut out: its zeros are single weights, not whole units"
    if small is not None:
        try:
            return *narrower(kind, model, Compact.of(model, small), inputs), ""
        except InexpressibleError as error:
            whole = str(error)
    return _filled(kind, copy.deepcopy(_config(model)), model.state_dict()), {}, whole


def _fewer_experts(
    kind: type[nn.Module], cut: Cut, small: Smaller | None, inputs: Any
) -> tuple[nn.Module, Mapping[str, tuple[int, int]]]:
    """The network without removed experts, where its configuration says so, and narrower where something else went.

    Raises:
        InexpressibleError: the configuration cannot say it.
    """
    if cut.network is None:
        raise InexpressibleError(cut.reason)
    if not cut.config:
        raise InexpressibleError(cut.unsaid)
    if small is not None and small.cut is not None and small.cut.network is not None:
        network = small.cut.network
        with suppress(InexpressibleError):
            found, changed = narrower(kind, network, Compact.of(network, small), inputs)
            return found, {**cut.config, **changed}
    network = cut.network
    return _filled(kind, copy.deepcopy(_config(network)), network.state_dict()), cut.config


@dataclass(frozen=True, eq=False)
class Compact:
    """A compact network, in whatever form.

    Attributes:
        tensors: by the names of the whole network's state dict; those of blocks that are gone are missing.
        idle: names of tensors of the whole network that take no part in its outputs.
        network: called as the whole network is.
    """

    tensors: Mapping[str, Tensor]
    idle: frozenset[str]
    network: nn.Module

    @classmethod
    def of(cls, model: nn.Module, small: Smaller) -> Compact:
        """From the graph of a network."""
        own = {id(tensor): name for name, tensor in [*model.named_buffers(), *model.named_parameters()]}
        # Tied tensors have one name in the graph, and several in the state dict.
        names = {name: own.get(id(tensor), name) for name, tensor in model.state_dict(keep_vars=True).items()}
        left = {name: tensor.detach() for name, tensor in small.tensors().items() if tensor.numel()}
        known = set(small.captured.names.values())
        idle = frozenset(name for name, first in names.items() if first not in known)
        return cls({name: left[one] for name, one in names.items() if one in left}, idle, AsCalled(small).eval())


def narrower(
    kind: type[nn.Module], model: nn.Module, compact: Compact, inputs: Any
) -> tuple[nn.Module, Mapping[str, tuple[int, int]]]:
    """The compact network as one of its architecture with smaller sizes, and these: before and after.

    Args:
        kind: the class of transformers.
        model: the whole network.
        compact: what is left of it.
        inputs: examples on which the two are compared.

    Raises:
        InexpressibleError: the configuration cannot say these sizes, or computes something else with them.
    """
    names = [name for name in model.state_dict() if name not in compact.idle]
    # Where all blocks of a stage are gone, the stage can be empty or be gone itself.
    ways = [blocks_left(names, compact.tensors, innermost) for innermost in (False, True)]
    failures: list[InexpressibleError] = []
    for blocks in ways if ways[0] != ways[1] else ways[:1]:
        try:
            return _without_blocks(kind, model, compact, inputs, blocks)
        except InexpressibleError as error:
            failures.append(error)
    raise failures[0]


def _without_blocks(
    kind: type[nn.Module], model: nn.Module, compact: Compact, inputs: Any, blocks: Sequence[Blocks]
) -> tuple[nn.Module, Mapping[str, tuple[int, int]]]:
    """See `narrower`: with what is gone read as these blocks."""
    state = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in compact.tensors.items()}
    left = {name: state[name] for name in compact.idle if _stays(name, blocks)}
    tensors = {renumbered(name, blocks): tensor for name, tensor in {**left, **compact.tensors}.items()}
    architecture = Architecture(kind, _config(model), compact.idle)
    for fit in fits(architecture, shapes, blocks):
        for config, found in _forms(fit.config, tensors, model, compact):
            network = _filled(kind, config, found)
            if _apart(network, model, compact.network, inputs) <= TOLERANCE:
                return network, fit.changed
    raise InexpressibleError("the configuration that has these sizes computes something else")


def _forms(
    config: Any, tensors: Mapping[str, Tensor], model: nn.Module, compact: Compact
) -> Iterator[tuple[Any, Mapping[str, Tensor]]]:
    """Configurations and tensors that may do what the compact network does.

    They are those that are given, and what they become where RMS norms of the compact network go on counting places
    that were cut out, as zeros. With k of n places left, the mean of squares is k/n of that of the k: a norm that
    counts the k alone does the same where its weight is √(n/k) times as large, and its epsilon n/k times.
    """
    yield config, tensors
    larger, share = dict(tensors), Fraction(1)
    for name, module in model.named_modules():
        weight, left = module._parameters.get("weight"), compact.tensors.get(f"{name}.weight")
        if "RMSNorm" in type(module).__name__ and weight is not None and left is not None and len(left) < len(weight):
            share = Fraction(len(weight), len(left))
            larger.update({own: left * math.sqrt(share) for own, tensor in tensors.items() if tensor is left})
    if share != 1:
        plain = config.to_dict()
        epsilons = {key: plain[key] * float(share) for key in EPSILONS if isinstance(plain.get(key), float)}
        yield with_values(config, epsilons), larger


def _stays(name: str, blocks: Sequence[Blocks]) -> bool:
    """Whether a tensor lies in no block that is gone."""
    for one in blocks:
        place = name.removeprefix(f"{one.name}.").partition(".")[0]
        if name.startswith(f"{one.name}.") and place.isdigit() and int(place) not in one.kept:
            return False
    return True


def _config(model: nn.Module) -> Any:
    """The configuration as it is to be opened: with a cache of keys and values again, which training goes without."""
    config: Any = copy.deepcopy(model.config)
    if getattr(config, "use_cache", None) is False and getattr(type(config)(), "use_cache", None):
        config.use_cache = True
    return config


def _filled(kind: type[nn.Module], config: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A network of this configuration with these tensors. What it has beyond them takes no part, and is 0."""
    with torch.random.fork_rng(devices=[]), _quietly():
        network = kind(config)
    own = network.state_dict()
    fitting = {name: one for name, one in tensors.items() if name in own and own[name].shape == one.shape}
    network.load_state_dict({name: fitting.get(name, torch.zeros_like(one)) for name, one in own.items()})
    return network.eval()


def _apart(network: nn.Module, model: nn.Module, reference: nn.Module, inputs: Any) -> float:
    """How far the outputs of two networks are apart, relative to the largest; infinitely where they have other shapes.

    Args:
        network: of transformers, called with tensors.
        model: the whole network, which knows what its inputs are called.
        reference: called as the task calls its networks.
        inputs: the examples.
    """
    named = named_tensors(model, inputs)
    positional = isinstance(inputs, Tensor) or not isinstance(inputs.content, Mapping)
    with torch.no_grad():
        found = logits_of(network(*named.values()) if positional else network(**named))
        expected = logits_of(reference(inputs))
    return relative_difference(found, expected) if found.shape == expected.shape else float("inf")


def _auto_name(kind: type[nn.Module], config: Any) -> str:
    """The class of transformers that opens a network of this class, whatever its architecture."""
    import transformers

    for name in AUTO.values():
        mapping: Any = getattr(transformers, name)._model_mapping
        if type(config) in mapping and mapping[type(config)] is kind:
            return name
    return kind.__name__


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the library's progress bars and notes."""
    import transformers

    with quiet(transformers):
        yield


def opened(folder: Path, auto: str) -> nn.Module:
    """The network in the folder ``huggingface`` of an export that may come from anywhere, in evaluation mode.

    Args:
        folder: of the export.
        auto: the class of transformers that opens it, as metrics.json says. No code that the folder brings is run.

    Raises:
        UserError: transformers is missing or has no such class, or a file is missing, broken or a link.
    """
    there = folder / HUGGING_FACE_FOLDER
    transformers = package("transformers", str(there), "huggingface")
    kind = getattr(transformers, auto, None) if auto.isidentifier() else None
    if kind is None or not hasattr(kind, "from_pretrained"):
        raise UserError([Problem("costs.huggingface.class", f"transformers has no class {shown(auto)}", str(folder))])
    if links := sorted(path.name for path in (there, *there.glob("*")) if path.is_symlink()):
        raise UserError([Problem("", f"holds symbolic links ({', '.join(links)}), which are not followed", str(there))])
    given = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    with quiet(transformers), as_user_error(f"{there} cannot be opened:", "huggingface"):
        network: nn.Module = kind.from_pretrained(str(there), **given)
    return adapted(network).eval()
