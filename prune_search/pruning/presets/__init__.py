"""Papers as values: presets, registered family by family. They have their papers' length; ``--set`` scales them."""
