"""Transforms: one small file per family of changes to the kept weights."""
