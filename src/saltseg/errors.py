"""Whose error it is, the user's, the machine's or ours, and messages in one line."""

import difflib
import errno
from collections.abc import Iterable

MAX_NAMES = 100  # that a message lists: timm alone knows 1,300 encoders

# What libraries say where memory is short. Their errors are of many kinds: torch raises RuntimeError, OpenCV its own.
NO_MEMORY = (
    "out of memory", "not enough memory", "can't allocate memory", "Insufficient memory", "ALLOC_FAILED",
    "could not create a primitive", "could not create a memory", "can't start new thread",
    "DataLoader worker (pid",  # one that was killed; an exception in one is "Caught … in DataLoader worker process 0"
)  # fmt: skip
FREE_SPACE = "free space on that disk and rerun"
MACHINE = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EFBIG: FREE_SPACE,
    errno.ENOENT: "was it removed or moved meanwhile? Rerun",
}


class InputError(ValueError):
    """Bad input: a file, a value or a name given by the user.

    The message is one line that holds what is wrong, the offending value and the way out. Commands print it
    and leave with exit code 2; a traceback is kept for our own mistakes.
    """


def reason(error: Exception | str, most: int = 80) -> str:
    """What an error of another library says, in one line of up to ``most`` characters; its kind if nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def lacks_memory(error: BaseException) -> bool:
    """Whether this is an error for want of memory, the computer's or a GPU's."""
    if isinstance(error, InputError):
        return False
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def of_machine(error: BaseException) -> str:
    """The line for an error of the machine's: too little memory, or what the system refuses; "" for others."""
    if lacks_memory(error):
        what = reason(str(error) or type(error).__name__, 160)
        return (
            f"not enough memory ({what}); close other programs and rerun, with a lower --parallel or "
            "runtime.predict_batch_size, or train under another --name with a lower train.batch_size"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error}; {MACHINE.get(error.errno, 'fix it and rerun')}"
    return ""


def raise_if_of_machine(error: Exception) -> None:
    """Raise an error of the machine again: it says nothing about the file or the settings at hand."""
    place = getattr(error, "errno", None) == errno.EINVAL  # a damaged file makes zipfile read before its beginning
    if of_machine(error) and not place:
        raise error


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
