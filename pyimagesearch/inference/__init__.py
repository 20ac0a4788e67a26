"""Inference: trained generators, and whole pictures and films made larger by them."""
