"""All places refined together."""
