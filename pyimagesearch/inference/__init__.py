"""Inference: trained generators, and whole images and videos made larger by them."""
