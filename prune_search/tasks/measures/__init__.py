"""The metrics of tasks: accuracy, F1, r2 and others, most of them torchmetrics' own."""
