"""What `lerac-fast` does: a module for each command, with its options and what it does."""
