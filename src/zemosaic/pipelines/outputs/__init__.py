"""What a run leaves beside the mosaic."""
