"""The session: a model, an image encoded once, and the segments that answer its prompts."""
