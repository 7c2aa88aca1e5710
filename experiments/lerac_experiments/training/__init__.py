"""One training: from the first step to the record, alone or with others, under a regime."""
