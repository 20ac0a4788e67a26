"""Data: images, pairs of low and high resolution, and the records of these pairs."""
