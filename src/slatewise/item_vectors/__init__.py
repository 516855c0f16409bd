"""Item vectors that exist before training: from ratings or from the catalog's features."""
