"""Loops over the samples of one output pixel: order, template, rejection, sums."""
