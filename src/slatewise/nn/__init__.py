"""Layers and their upkeep."""
