"""Maximum inner product search over item vectors, exact or approximate, and balanced item trees."""
