"""A trial as data: recipes, search spaces, and the registry of axes. Imports no torch."""
