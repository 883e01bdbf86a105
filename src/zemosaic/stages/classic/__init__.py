"""Thin adapters by which users of the classic pipeline know its steps; plain functions do the work."""
