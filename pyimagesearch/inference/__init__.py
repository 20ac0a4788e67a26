"""Inference: trained generators, and whole images and videos upscaled by them."""
