"""Warped samples into one image, with rejection."""
