"""Transforms: a small file for each family of changes to the kept weights."""
