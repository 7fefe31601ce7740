"""The three functions of a pruning paradigm: mask/ is f1, weights/ is f2, retrain/ is f3; presets/ are papers."""
