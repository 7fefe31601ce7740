"""The models, a registry entry each. Reading the list imports no torch."""
