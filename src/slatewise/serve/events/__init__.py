"""The durable log of decisions and outcomes, one kind a file."""
