"""Inference: load trained generators and upscale whole images and videos."""
