"""The app: pages for people without a terminal, served to a browser on the same machine.

It computes nothing. It starts ``zemosaic build ... --watched --json`` as a child, shows the lines that this writes, and
knows a run only by its output folder.
"""
