"""The one exception that means "your input", as opposed to "our mistake", and messages in one line."""

import difflib
from collections.abc import Iterable

MAX_NAMES = 100  # that a message lists: timm alone knows 1,300 encoders


class InputError(ValueError):
    """Bad input: a file, a value or a name given by the user.

    The message is one line that holds what is wrong, the offending value and the way out. Commands print it
    and leave with exit code 2; a traceback is kept for our own mistakes.
    """


def reason(error: Exception | str, most: int = 80) -> str:
    """What an error of another library says, in one line of up to ``most`` characters; its kind if nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: what it was, the nearest ones, or those known when none is near."""
    known = list(known)
    name = name if len(name) <= MAX_NAMES else f"{name[:MAX_NAMES]}…"
    elsewhere = [k for k in known if k.split(".")[-1] == name.split(".")[-1]]  # the right key in the wrong section
    near = list(dict.fromkeys([*elsewhere, *difflib.get_close_matches(name, known, n=3, cutoff=0.5)]))[:3]
    if near:
        return f"unknown {kind} {name!r}; did you mean {', '.join(near)}?"
    more = f" and {len(known) - MAX_NAMES:,} more" if len(known) > MAX_NAMES else ""
    return f"unknown {kind} {name!r}; known: {', '.join(known[:MAX_NAMES])}{more}"
