"""Loops over plain arrays of pixels."""
