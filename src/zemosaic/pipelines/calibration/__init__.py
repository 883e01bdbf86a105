"""Darks, flats and biases: masters made, chosen and applied."""
