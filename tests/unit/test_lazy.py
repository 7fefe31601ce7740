"""A module that is imported when it is first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from prune_search.lazy import LazyModule


def test_it_is_imported_at_the_first_attribute_and_gives_the_real_one() -> None:
    text = (
        "import sys\nfrom prune_search.lazy import LazyModule\nlazy = LazyModule('colorsys')\n"
        "before = 'colorsys' in sys.modules\nlazy.rgb_to_hsv\nprint(before, 'colorsys' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False True\n"


def test_what_the_module_does_not_have_is_missing() -> None:
    import json

    lazy = LazyModule("json")
    assert lazy.dumps is json.dumps
    assert lazy.__dict__["dumps"] is json.dumps
    with pytest.raises(AttributeError):
        lazy.no_such_thing  # noqa: B018
