"""Numbers of things in sentences."""


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: ``1 run``, ``2 runs``.

    Args:
      number: how many there are.
      noun: one of them; the plural adds an s.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
