"""What serves and does not learn, and what learning policies are built on."""
