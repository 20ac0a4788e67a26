"""Training: from a `Config` to trained generators."""
