"""What one frame tells of itself: sky, noise, stars, defects, parts without data."""
