"""What an item is before training: vectors from ratings, features, text."""
