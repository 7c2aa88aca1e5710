"""Data of one's own: readers of files and folders, by a text on the command line that says what to read."""
