"""A frame's pixels onto the output grid."""
