"""The output grid."""
