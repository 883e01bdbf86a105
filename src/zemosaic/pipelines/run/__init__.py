"""What every pipeline is handed, and the keys of stored results."""
