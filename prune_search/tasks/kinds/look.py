"""How images are given to a network: their size, their augmentations, and how levels are normalised."""

from __future__ import annotations

from dataclasses import dataclass

from prune_search.recipe.problems import Problem


@dataclass(frozen=True)
class Look:
    """How images become tensors.

    Attributes:
        size: height and width of an example in pixels.
        resize: the shorter side before the middle is cut out, in pixels, at least `size`.
        augment: what is done to training images, by name and in this order.
        mean: of each channel, of levels 0 … 1.
        std: likewise.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    size: int
    resize: int
    augment: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    @property
    def channels(self) -> int:
        """1 of grey images, 3 of others."""
        return len(self.mean)

    def problems(self) -> list[Problem]:
        """What of it cannot be, by the key of the recipe."""
        found: list[Problem] = []
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            text = f"mean and std need 3 figures each, or 1 for grey images (got {len(self.mean)} and {len(self.std)})"
            found.append(Problem("task.data.mean", text))
        if self.resize < self.size:
            found.append(Problem("task.data.resize", f"must be at least size, {self.size} (got {self.resize})"))
        return found
