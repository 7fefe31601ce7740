"""Which units of a network go together, read from the graph that torch.export captures."""
