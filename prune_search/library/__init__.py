"""The library: masks, dynamics and penalties in a training loop of your own."""
