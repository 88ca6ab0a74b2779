"""The one exception that means "your input", as opposed to "our mistake", and others' errors in one line."""


class InputError(ValueError):
    """Bad input: a file, a value or a name given by the user.

    The message is one line that holds what is wrong, the offending value and the way out. Scripts print it
    and leave with exit code 2; a traceback is kept for our own mistakes.
    """


def reason(error: Exception | str, most: int = 80) -> str:
    """What an error of another library says, in one line of up to ``most`` characters; its kind if nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
