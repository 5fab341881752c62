"""The one exception for input that cannot be used."""

LONGEST = 800


class InputError(ValueError):
    """What the caller gave cannot be used.

    The message is one line that names the file or flag, what was expected and what came.
    The scripts print it and exit with 2; every other exception is a defect and keeps its traceback.
    What a file says may be part of it, so unprintable characters are escaped and the end cut off.
    """

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST:
            message = message[:LONGEST] + " ..."
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))
