"""The one error that is meant for the person who runs the study."""


class InputError(Exception):
    """Something the user gave is wrong; the message names it and says what to do."""
