"""Mosaics of tiles: stacks of groups, or stacks that the user brings."""
