"""Where the state of users is kept, one kind a file."""
