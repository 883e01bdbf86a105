"""Files found, opened and read in windows."""
