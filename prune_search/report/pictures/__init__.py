"""What is drawn of a comparison: a small file per subject, an entry of the axis of pictures each."""
