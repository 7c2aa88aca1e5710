"""CBS, curriculum by smoothing."""
