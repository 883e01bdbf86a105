"""Nouns: frozen values, checked when made. No files, no threads, no pixel loops."""
