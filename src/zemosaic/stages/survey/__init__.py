"""Survey tiles: cut, photometry, overlaps, solve."""
