"""Learning from a log: `fit` in memory; `train` plans, fits, validates and checkpoints a run on disk.

The modules are imported one by one, so that what only fits does not load evaluation and artifacts.
"""
