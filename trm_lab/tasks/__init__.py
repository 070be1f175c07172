"""Puzzles: what the settings in `trm_lab.config.task` stand for, as arrays.

`build.build(task)` is the way in.  Nothing here imports torch.
"""
