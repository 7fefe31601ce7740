"""A trial as data: recipes, spaces, and the registry of axes. Imports no torch."""
