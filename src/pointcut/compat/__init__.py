"""Drop-in names for scripts written for `segment_anything` and `sam2`: change the import line, nothing else."""
