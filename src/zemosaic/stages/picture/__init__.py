"""Numbers into a picture for people."""
