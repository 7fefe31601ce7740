"""The functions that the command line and notebooks call: run, launch, compare, export, load."""
