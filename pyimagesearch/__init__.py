"""SRGAN: photographs four times as large in each direction, after Ledig et al., arXiv 1609.04802."""
