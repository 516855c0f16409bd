"""Policies in environments: the only code that steps an environment."""
