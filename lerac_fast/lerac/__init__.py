"""LeRaC, the learning rate curriculum: its schedule, and what its rates can follow."""
