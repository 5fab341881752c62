"""The exception for input that cannot be used."""

LONGEST = 800
"""The longest message, in characters."""


class InputError(ValueError):
    """The input cannot be used.

    The message is one line. It names the file or the argument, what was expected and what came. An argument
    stands in backticks; the commands replace it by its flag.
    The scripts print the message and exit with 2. Every other exception is a defect and keeps its traceback.
    A message can quote a file. Unprintable characters are therefore escaped, and a long message is cut off.
    """

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST:
            message = message[:LONGEST] + " ..."
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))
