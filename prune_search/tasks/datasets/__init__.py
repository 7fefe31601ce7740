"""The data sets, a registry entry each. Reading the list imports no torch."""
