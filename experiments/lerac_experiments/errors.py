"""What a user of the command line can mend."""


class ExperimentError(Exception):
    """Bad options, data or settings. The command line prints the message alone, without a traceback."""


class Unavailable(ExperimentError):
    """A data set is neither on this machine nor could it be downloaded. The message says what to do."""
