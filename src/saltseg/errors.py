"""The one exception that means "your input", as opposed to "our mistake"."""


class InputError(ValueError):
    """Bad input: a file, a value or a name given by the user.

    The message is one line that holds what is wrong, the offending value and the way out. Scripts print it
    and leave with exit code 2; a traceback is kept for our own mistakes.
    """
