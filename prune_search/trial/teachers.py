"""A teacher from a folder: an exported network, or the copy that an export carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from prune_search.compact.file_names import MODEL_FILE
from prune_search.recipe import strict_yaml
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.recipe import Recipe, digest_of
from prune_search.recipe.space import RECIPE_FILE
from prune_search.storage.digests import weights_digest
from prune_search.storage.tensors import load_tensors
from prune_search.tasks.network import forward_digest

# In the folder of a run that was taught by one.
TEACHER_RECIPE, TEACHER_WEIGHTS = "teacher.yaml", "teacher.safetensors"
KEY = "retrain.loss.teacher"


@dataclass(frozen=True, eq=False)
class GivenTeacher:
    """A network that was read.

    Attributes:
        model: on the CPU, in evaluation mode.
        recipe: what made it.
        tensors: its weights and buffers by name, [...] as in its state dict.
    """

    model: nn.Module
    recipe: Recipe
    tensors: Mapping[str, Tensor]

    @property
    def digest(self) -> str:
        """sha256 of its weights and of what it computes with them."""
        return digest_of({"weights": weights_digest(dict(self.tensors)), "forward": forward_digest(self.model)})


def read_teacher(
    written: str, folder: Path | None, build: Callable[[Recipe, Mapping[str, Tensor]], nn.Module]
) -> GivenTeacher:
    """The network in a folder that `run --out` or `export` wrote.

    Args:
        written: the folder, or the ``teacher.yaml`` in the folder of a run that was taught by it.
        folder: of the recipe file, which `written` can be relative to.
        build: a recipe's network with the tensors of its result, for the data on which it teaches.

    Raises:
        UserError: there is no such folder, it is not whole, or its network is for other data.
    """
    path = Path(written)
    if not path.is_absolute() and folder is not None and (folder / path).exists():
        path = folder / path
    recipe_file, weights_file = path / RECIPE_FILE, path / MODEL_FILE
    if path.name == TEACHER_RECIPE:
        recipe_file, weights_file = path, path.with_name(TEACHER_WEIGHTS)
    for file in (recipe_file, weights_file):
        if not file.is_file():
            text = f"{shown(written)} is not the folder of an exported network: it has no {file.name}"
            raise UserError([Problem(KEY, text)])
    try:
        recipe = Recipe.read(strict_yaml.load_file(recipe_file))
        tensors = load_tensors(weights_file)
        model = build(recipe, tensors)
    except UserError as error:
        first, *others = (problem.message for problem in error.problems)
        more = f" (and {len(others)} more)" if others else ""
        raise UserError([Problem(KEY, f"{shown(written)}: {first}{more}")]) from None
    return GivenTeacher(model, recipe, tensors)
