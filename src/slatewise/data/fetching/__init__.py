"""Public data sets by name: pinned downloads and their conversion to a log."""
