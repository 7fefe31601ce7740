"""The library: masks, dynamics and penalties for your own training loop."""
