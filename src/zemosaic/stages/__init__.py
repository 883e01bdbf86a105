"""Verbs: pure steps, values and one stage's settings in, values out. No files, threads or clocks."""
