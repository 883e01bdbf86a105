"""Loops of blending: pyramids, distances to an edge."""
