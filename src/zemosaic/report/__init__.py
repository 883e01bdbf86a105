"""The report page: figures and sentences made of the numbers that a run leaves. Numbers in, HTML out; no files.

Loaded only when a report is made: it needs Jinja2 and matplotlib.
"""
