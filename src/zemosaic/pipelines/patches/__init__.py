"""Patches of the output: planned, made, kept."""
