"""Evaluation: measure how close results are to their ground truth."""
