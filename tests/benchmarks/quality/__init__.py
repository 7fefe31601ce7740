"""What `search_quality.py` measures with: problems, searches, and how their figures are put together."""
