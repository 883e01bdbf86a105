"""Loops of the plate solver."""
