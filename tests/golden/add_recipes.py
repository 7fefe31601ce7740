"""Write the canonical forms of new golden recipes: ``python tests/golden/add_recipes.py``, from the repository's root.

It is only for new files: a ``NAME.yaml`` in ``schema_1/`` that ``canonical.json`` does not have yet. What
``canonical.json`` has is never changed, because the keys of every search that anybody has stored depend on it: where
the code gives another canonical form for an old file, the code is wrong, or it needs a new schema number.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from prune_search.recipe.recipe import digest_of
from prune_search.recipe.space import find, read_space

FOLDER = Path(__file__).parent / "schema_1"
CANONICAL = FOLDER / "canonical.json"


def recipes() -> dict[str, Path]:
    """Name and file of every golden recipe."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def canonical_of(path: Path) -> dict[str, Any]:
    """The canonical form that the code gives, and its sha256."""
    raw, source = find(str(path))
    canonical = read_space(raw, source).only_recipe().canonical
    return {"canonical": canonical, "sha256": digest_of(canonical)}


def golden() -> dict[str, Any]:
    """What ``canonical.json`` has."""
    return json.loads(CANONICAL.read_text("utf-8")) if CANONICAL.exists() else {}


def main() -> int:
    """Add what is new; refuse where something old has changed."""
    known = golden()
    made = {name: canonical_of(path) for name, path in recipes().items()}
    changed = sorted(name for name in known if made.get(name) != known[name])
    if changed:
        print(f"changed or gone, nothing is written: {', '.join(changed)}")
        return 1
    text = json.dumps(made, indent=1, sort_keys=True)
    CANONICAL.write_text(f"{text}\n", "utf-8")
    print(f"added: {', '.join(sorted(set(made) - set(known))) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
