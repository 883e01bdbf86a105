"""Loops that measure a frame: sky meshes, peaks, apertures, defects."""
