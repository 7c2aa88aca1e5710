"""What a reader of the results must know about the data."""


def join_notes(*notes: str | None) -> str | None:
    """One note of several, some of which may be None."""
    return "; ".join(note for note in notes if note is not None) or None


def size_note(published: tuple[int, int], train: int, test: int) -> str | None:
    """A note if the numbers of examples to train and to test with are not those of the published data set."""
    if (train, test) == published:
        return None
    return f"{train:,} training and {test:,} test examples, where {published[0]:,} and {published[1]:,} were published"
