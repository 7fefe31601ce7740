"""Reads trained weights from the files in which people keep them: safetensors, torch's own, a Hugging Face folder.

Nothing is ever unpickled: torch's files are read with ``weights_only``, which knows tensors and plain containers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.files import one_line
from prune_search.storage.tensors import load_tensors

# Where checkpoints keep their state dict, and what wrappers put in front of every name.
PLACES = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "model.", "_orig_mod.")
TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt")
MAX_NAMES = 5


def read_weights(path: Path, written: str) -> dict[str, Tensor]:
    """The tensors of a file of weights, by the names that it gives them.

    Args:
        path: a .safetensors file; a .pt, .pth, .bin or .ckpt file with a state dict, or with one under ``state_dict``,
            ``model_state_dict`` or ``model``; or a folder as Hugging Face writes it (one file, or several and an
            index).
        written: as the user wrote it, for messages.

    Raises:
        UserError: there is no such file, or it holds anything but tensors.
    """
    path = path.resolve()
    if path.is_dir():
        return _of_folder(path, written)
    read = _torch_file if path.suffix.lower() in TORCH_FILES else load_tensors
    return dict(read(path))


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


def _of_folder(folder: Path, written: str) -> dict[str, Tensor]:
    for name, read in (("model.safetensors", load_tensors), ("pytorch_model.bin", _torch_file)):
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
            text = f"{where} cannot be read as a file of torch: {one_line(error)}"
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
    keys = ", ".join(shown(key) for key in list(content)[:MAX_NAMES])
    text = f"{where} has no state dict: its keys are {keys}; looked at the top and under {', '.join(PLACES)}"
    raise UserError([Problem("", text)])
