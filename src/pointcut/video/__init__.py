"""Video: objects pointed at once are followed from frame to frame."""
