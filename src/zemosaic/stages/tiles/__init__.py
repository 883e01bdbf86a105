"""Master tiles: groups of frames, their rims, their blending."""
