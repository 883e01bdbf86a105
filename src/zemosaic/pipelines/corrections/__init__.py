"""The gain and surface of every frame."""
