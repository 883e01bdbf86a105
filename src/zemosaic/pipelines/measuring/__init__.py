"""Every frame measured once."""
