"""Trained weights: read from common file formats, loaded into a network, and never redrawn unless asked.

The files are safetensors, torch's own, and folders as Hugging Face writes them.

Nothing is ever unpickled: torch's files are read with ``weights_only``, which knows tensors and plain containers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.recipe import axes
from prune_search.recipe.blocks import Task, UserCode
from prune_search.recipe.named import Named
from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.storage.files import one_line
from prune_search.storage.tensors import load_tensors, map_tensors
from prune_search.tasks.fusion import is_record, restructured
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.raised import raised
from prune_search.tasks.shards import is_sharded, write_whole

# Where checkpoints keep their state dict, and what wrappers put in front of every name.
PLACES = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "model.", "_orig_mod.")
TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt")
MAX_NAMES = 5
_log = logging.getLogger("prune_search")


def read_weights(path: Path, written: str, mapped: bool = False) -> dict[str, Tensor]:
    """The tensors of a file of weights, by the names that it gives them.

    Args:
        path: a .safetensors file; a file of torch, whatever its name, with a state dict, or with one under
            ``state_dict``, ``model_state_dict`` or ``model``; or a folder as Hugging Face writes it (one file, or
            several and an index).
        written: as the user wrote it, for messages.
        mapped: whether safetensors files are mapped: only what is looked at comes into memory.

    Raises:
        UserError: there is no such file, or it holds anything but tensors.
    """
    path = path.resolve()
    load = map_tensors if mapped else load_tensors
    if path.is_dir():
        return _of_folder(path, written, load)
    return dict((_torch_file if _is_of_torch(path) else load)(path))


def why_read_whole(written: str, folder: Path | None) -> str:
    """Why the weights of ``train.from`` cannot be read tensor by tensor into a sharded network; empty where they can.

    Args:
        written: the path, as the recipe has it.
        folder: of the recipe file.

    Raises:
        UserError: there is no such file.
    """
    path = _placed(written, folder).resolve()
    of_torch = _is_of_torch(path) or (path.is_dir() and not list(path.glob("model.safetensors*")))
    if of_torch:
        return f"train.from {shown(written)} is a file of torch; one of safetensors is read tensor by tensor"
    if any(is_record(name) for name in read_weights(path, written, mapped=True)):
        return f"train.from {shown(written)} holds layers that were fused, which change the network's structure"
    return ""


def _placed(written: str, folder: Path | None) -> Path:
    """Where a path of a recipe is: relative to the recipe file, if it is there."""
    path = Path(written)
    return folder / path if not path.is_absolute() and folder is not None and (folder / path).exists() else path


def _is_of_torch(path: Path) -> bool:
    """Whether torch wrote a file, by its name, or where that says nothing by how it begins: a zip file or a pickle."""
    suffix = path.suffix.lower()
    if suffix in TORCH_FILES or suffix == ".safetensors" or not path.is_file():
        return suffix in TORCH_FILES
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def fitted(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the names that a model has, and what was done for it.

    What DataParallel, Lightning and ``torch.compile`` put in front of every name is taken away where that fits better.

    Args:
        tensors: shapes [...] by name.
        wanted: the names of the model's state dict.

    Returns:
        The tensors, and the prefixes that were taken away, in order.
    """
    named, taken = dict(tensors), list[str]()
    best = (named, list(taken))
    while not set(wanted) <= set(named):
        prefix = next((p for p in PREFIXES if named and all(name.startswith(p) for name in named)), None)
        if prefix is None:
            inner = {name.replace("._orig_mod.", "."): tensor for name, tensor in named.items()}
            if len(inner) != len(named) or set(inner) == set(named):
                break
            named, prefix = inner, "._orig_mod."
        else:
            named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
        taken.append(prefix)
        if len(set(wanted) & set(named)) > len(set(wanted) & set(best[0])):
            best = (named, list(taken))
    return best if not set(wanted) <= set(named) else (named, taken)


def _of_folder(folder: Path, written: str, load: Callable[[Path], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    for name, read in (("model.safetensors", load), ("pytorch_model.bin", _torch_file)):
        if (folder / name).is_file():
            # A folder that a hub has cached holds links.
            return dict(read((folder / name).resolve()))
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _of_shards(folder, index, read)
    text = f"{shown(written)} has no model.safetensors or pytorch_model.bin, nor an index of either"
    raise UserError([Problem("", text)])


def _of_shards(folder: Path, index: Path, read: Callable[[Path], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    try:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError([Problem("", f"{shown(str(index))} is not an index of weights: {one_line(error)}")]) from None
    strange = [name for name in files if not isinstance(name, str) or Path(name).name != name]
    if strange:
        # An index names files beside it, and none elsewhere.
        raise UserError([Problem("", f"{shown(str(index))} names {shown(strange[0])}, which is not a file beside it")])
    found: dict[str, Tensor] = {}
    for name in files:
        found.update(read((folder / name).resolve()))
    return found


def _torch_file(path: Path) -> dict[str, Tensor]:
    where = shown(str(path))
    try:
        # `weights_only` builds tensors and plain containers, and refuses everything else before it is called.
        content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except FileNotFoundError:
        raise UserError([Problem("", f"there is no file {where}")]) from None
    except OSError as error:
        raise UserError([Problem("", f"{where} cannot be read: {error.strerror or one_line(error)}")]) from None
    except Exception as error:  # noqa: BLE001 - whatever foreign bytes make the reader raise
        if "weights_only" in str(error):
            text = f"{where} holds more than tensors and is not read: save torch.save(model.state_dict(), …) instead"
        else:
            text = f"{where} cannot be read as a file of torch: {raised(error)}"
        raise UserError([Problem("", text)]) from None
    return _state_dict(content, where)


def _state_dict(content: Any, where: str) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise UserError([Problem("", f"{where} holds a value of type {type(content).__name__}, not a state dict")])
    # A checkpoint may hold tensors beside its state dict, and a state dict may hold other values beside its tensors.
    nested = [value for place in PLACES if isinstance(value := content.get(place), Mapping)]
    for candidate in (*nested, content):
        tensors = {name: value for name, value in candidate.items() if isinstance(value, Tensor)}
        if tensors and all(isinstance(name, str) for name in tensors):
            if wrong := [name for name, value in tensors.items() if value.layout != torch.strided]:
                raise UserError([Problem("", f"{where}: {wrong[0]} is not a dense tensor")])
            return {name: value.detach() for name, value in tensors.items()}
    keys = ", ".join(shown(key) for key in list(content)[:MAX_NAMES]) or "none"
    text = f"{where} has no state dict: its keys are {keys}; looked at the top and under {', '.join(PLACES)}"
    raise UserError([Problem("", text)])


def load_given(model: nn.Module, written: str, folder: Path | None) -> None:
    """Put the weights of ``train.from`` into a model, and say what had to be done to make them fit.

    Args:
        model: changed in place; one that is sharded over workers, by all of them.
        written: the path, as the recipe has it.
        folder: of the recipe file, which the path can be relative to.

    Raises:
        UserError: there is no such file, or its tensors are another network's.
    """
    path = _placed(written, folder)
    state = model.state_dict(keep_vars=True)
    try:
        # Into shards they go one at a time, so that no worker holds them all.
        tensors, taken = fitted(read_weights(path, written, mapped=is_sharded(model)), state)
        if restructured(model, tensors):
            state = model.state_dict(keep_vars=True)
        notes = [f"the names of its tensors are read without {prefix!r}" for prefix in taken]
        for name in sorted(set(state) - set(tensors)):
            if name.endswith("num_batches_tracked"):
                # Files of old versions of torch lack them; they are counts.
                tensors[name] = state[name].detach().clone()
        widened = [name for name, tensor in tensors.items() if name in state and _is_wider(state[name], tensor)]
        if widened:
            notes.append(f"{len(widened)} tensors in lower precision become {state[widened[0]].dtype}")
        if odd := [name for name, tensor in tensors.items() if name in state and not bool(tensor.isfinite().all())]:
            raise UserError([Problem("", f"{shown(written)}: {odd[0]} holds values that are not finite")])
        load_weights(model, tensors, shown(written), widened)
    except UserError as error:
        told = (f"{shown(written)} {p.message}" if p.source else p.message for p in error.problems)
        raise UserError(Problem("train.from", text) for text in told) from None
    for note in notes:
        _log.warning("train.from: %s: %s", shown(written), note)


def _is_wider(has: Tensor, given: Tensor) -> bool:
    """Whether a type holds every value of another, smaller one of floating point."""
    both = has.is_floating_point() and given.is_floating_point()
    return both and has.dtype != given.dtype and torch.promote_types(has.dtype, given.dtype) == has.dtype


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str, widened: Collection[str] = ()) -> None:
    """Copy weights and buffers into a model.

    Args:
        model: changed in place, or left as it was where they do not fit.
        tensors: by name, as in the model's state_dict.
        source: where they come from, for messages.
        widened: names of tensors whose values become those of the model's type, which holds them all.

    Raises:
        UserError: with every tensor that is missing, unknown, or of another shape or type.
    """
    problems = []
    restructured(model, tensors)
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        given = tensors.get(name)
        if given is None:
            near = suggestion(name, [other for other in tensors if other not in state])
            problems.append(Problem("", f"{source} is missing the tensor {name!r}{near}"))
        elif given.shape != tensor.shape or (given.dtype != tensor.dtype and name not in widened):
            has, wanted = (f"{tuple(t.shape)} of {t.dtype}" for t in (given, tensor))
            problems.append(Problem("", f"{source}: {name} is {has}, but the model's is {wanted}"))
    unknown = sorted(set(tensors) - set(state))
    if unknown:
        problems.append(Problem("", f"{source} has tensors that the model does not have: {', '.join(unknown[:5])}"))
    if problems:
        raise UserError(problems)
    for name, tensor in state.items():
        write_whole(tensor, tensors[name])


# Factories, by name, source and data, that were found to draw their weights: a worker asks once.
_DRAWN: set[tuple[object, ...]] = set()


def check_nothing_is_lost(
    task: Task, init: Named, model: nn.Module, source: str, about: tuple[object, ...], build: Callable[[], nn.Module]
) -> None:
    """Refuse to draw the weights of a network anew that its factory does not draw: a pretrained one.

    Args:
        task: the recipe's block, with the model.
        init: its ``train.init``.
        model: as it was built with the recipe's seed.
        source: digest of a user's factory; empty for a registered model, which says whether it is trained.
        about: what else the factory was told.
        build: builds the model with another seed.

    Raises:
        UserError: trained weights would be lost.
    """
    draws, named = init.entry(axes.INITS).facts.draws, task.model
    if not isinstance(named, UserCode) and draws:
        if named.entry(axes.MODELS).facts.trained(**named.options):
            raise _lost(f"{named.name} comes with trained weights", init.name)
        return
    asked = (repr(named), source, *about)
    if not source or not draws or asked in _DRAWN:
        return
    other = prunable_weights(build())
    pairs = zip(prunable_weights(model).values(), other.values(), strict=False)
    varied = [(one, two) for one, two in pairs if one.numel() > 1 and bool((one != one.flatten()[0]).any())]
    same = sum(one.numel() for one, two in varied if one.shape == two.shape and torch.equal(one, two))
    # A pretrained network may have a head of its own that is drawn: most weights count.
    if 2 * same <= sum(one.numel() for one, _ in varied):
        _DRAWN.add(asked)
        return
    builds = "builds the same weights whatever the seed, as a pretrained network does"
    raise _lost(f"{task.written['model']} {builds}", init.name)


def _lost(what: str, init: str) -> UserError:
    text = (
        f"{what}, and train.init {init} would overwrite them. To prune the network as it is, set train.from=model; "
        f"to train it further first, set train.init=as-built"
    )
    return UserError([Problem("task.model", text)])
