"""What is done to trials before they are run: they are multiplied, shortened, checked and tried."""
