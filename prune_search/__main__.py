"""``python -m prune_search``."""

from prune_search.cli.main import main

main()
