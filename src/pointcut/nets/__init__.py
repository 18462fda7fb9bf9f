"""The networks of the SAM family, in plain PyTorch. Nothing here knows of files, pixels of photographs or commands."""
