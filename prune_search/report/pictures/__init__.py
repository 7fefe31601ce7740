"""The figures of a comparison: one small file per subject, each an entry of the axis of pictures."""
