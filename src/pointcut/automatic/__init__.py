"""Automatic masks: a grid of points on an encoded image, the answers filtered to what is sure and different."""
