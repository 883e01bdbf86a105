"""The survey grid: geometric tiles, stacked, matched and blended."""
