"""Header cards and the facts drawn from them."""
