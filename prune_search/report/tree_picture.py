"""Draws the shared tree of a search: every segment once, as long as its steps, darker the more it is shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prune_search.ledger.account import total
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import known_epoch, recipe_epoch
from prune_search.trial.addresses import nominal_branch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# With more trials than these the picture has no room for a name each.
MAX_NAMES = 60
MAX_TRIALS = 400
ROW_INCHES, MIN_INCHES, MAX_INCHES = 0.22, 3.0, 30.0


@dataclass
class TreeNode:
    """A segment of the tree.

    Attributes:
        steps: the furthest that a trial asks for it, in iterations.
        begin: steps on the way before it.
        users: names of the trials that need it.
        children: what follows.
        ends: names of the trials whose last segment it is.
        row: where it is drawn.
    """

    steps: int = 0
    begin: int = 0
    users: list[str] = field(default_factory=list)
    children: dict[str, TreeNode] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    row: float = 0.0


def grow(search: SearchRecords) -> TreeNode:
    """The tree of the trials of a search that have been proposed; its root stands before all training."""
    root = TreeNode()
    for trial in list(search.trials.values())[:MAX_TRIALS]:
        if trial.duplicate_of is None:
            _add(root, trial, int(search.definition.get("examples") or 0))
    return root


def _add(root: TreeNode, trial: TrialRecords, examples: int) -> None:
    try:
        recipe = Recipe.from_canonical(trial.recipe)
        epoch = known_epoch(recipe) or recipe_epoch(recipe, examples)
        vertices = nominal_branch(recipe, epoch)[1].vertices()
    except UserError:
        # A recipe of another version's making: it is not drawn.
        return
    name = str(trial.proposed.data["name"]) if trial.proposed is not None else trial.id
    node = root
    for vertex in vertices:
        node = node.children.setdefault(vertex.address, TreeNode())
        node.steps = max(node.steps, vertex.needed)
        node.users.append(name)
    node.ends.append(name)


def tree_figure(search: SearchRecords) -> Figure | None:
    """The picture of the trials that have been proposed; None where there is none."""
    from matplotlib.figure import Figure

    root = grow(search)
    if not root.children:
        return None
    rows = _lay_out(root)
    height = min(MAX_INCHES, max(MIN_INCHES, 1.2 + ROW_INCHES * rows))
    figure = Figure(figsize=(11, height), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, root, rows)
    axes.set_title(_title(search), loc="left", fontsize=10)
    return figure


def _title(search: SearchRecords) -> str:
    account = total(search.trials.values())
    asked = account.trained + account.saved
    text = f"{search.name}: {account.trained:,} steps trained, {account.saved:,} saved"
    return text + (f" ({asked / account.trained:.2f} times fewer)" if account.trained else "")


def _lay_out(root: TreeNode) -> int:
    """Give every segment its place; how many rows there are."""
    count = 0

    def place(node: TreeNode, begin: int) -> None:
        nonlocal count
        node.begin = begin
        following = list(node.children.values())
        for child in following:
            place(child, begin + node.steps)
        if following:
            node.row = sum(child.row for child in following) / len(following)
        else:
            node.row = float(count)
            count += 1

    place(root, 0)
    return max(1, count)


def _nodes(root: TreeNode) -> Iterator[TreeNode]:
    for child in root.children.values():
        yield child
        yield from _nodes(child)


def _draw(axes: Axes, root: TreeNode, rows: int) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    nodes: Sequence[TreeNode] = list(_nodes(root))
    most = max((len(node.users) for node in nodes), default=1)
    shade, norm = colormaps["cividis_r"], LogNorm(1, max(2, most))
    for node in nodes:
        for child in node.children.values():
            end = node.begin + node.steps
            axes.plot([end, end], [node.row, child.row], color="0.6", linewidth=0.8, zorder=1)
    for node in nodes:
        users = len(node.users)
        axes.barh(
            node.row, node.steps, left=node.begin, height=0.62, color=shade(norm(users)), edgecolor="0.25",
            linewidth=0.5, zorder=2,
        )  # fmt: skip
        if users > 1:
            middle = node.begin + node.steps / 2
            dark = norm(users) > 0.5
            axes.text(middle, node.row, f"×{users}", ha="center", va="center", fontsize=7, zorder=3,
                      color="white" if dark else "black")  # fmt: skip
        if node.ends and not node.children and rows <= MAX_NAMES:
            names = node.ends[0] + (f" and {len(node.ends) - 1} more" if len(node.ends) > 1 else "")
            axes.text(node.begin + node.steps, node.row, f"  {names}", va="center", fontsize=7)
    axes.set_yticks([])
    axes.set_ylim(rows - 0.4, -0.6)
    axes.margins(x=0.25 if rows <= MAX_NAMES else 0.02)
    axes.set_xlim(left=0)
    axes.set_xlabel("iterations on the way to a result; ×n: trained once for n trials")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
