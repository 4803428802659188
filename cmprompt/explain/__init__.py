"""Why this label: which pixels, which words."""
