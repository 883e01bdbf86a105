"""Loops: arrays and numbers in, arrays out. Numba, nogil, serial inside."""
