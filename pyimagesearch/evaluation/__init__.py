"""Evaluation: how close results come to the truth."""
