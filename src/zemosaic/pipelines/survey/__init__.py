"""The survey: geometric tiles, stacked, matched and blended."""
