"""One sky: gains from shared stars, surfaces from shared sky, solved once."""
