"""Loops that bring pixels onto another grid."""
