"""What a program does before it imports anything that takes time."""

import signal


def end_quietly_on_ctrl_c() -> None:
    """Lets Ctrl-C end this process without a traceback, until the program handles signals.

    An ignored signal stays ignored: a shell ignores Ctrl-C for programs in its background.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
