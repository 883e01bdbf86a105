"""Loops that fill the equations of the match."""
