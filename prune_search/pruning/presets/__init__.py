"""Presets: papers as recipes, one file per family, at the papers' training lengths."""
