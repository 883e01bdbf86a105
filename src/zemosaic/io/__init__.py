"""The edge: files, catalogues and other programs."""
