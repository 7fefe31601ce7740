"""The sampler that knows the tree of shared training: what a recipe still costs, and what is to be expected of it."""
