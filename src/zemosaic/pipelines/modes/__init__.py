"""One module a mode, and the choice between them."""
