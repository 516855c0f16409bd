"""Layers, item tables and what training needs around them."""
