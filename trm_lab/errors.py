"""Errors that a user can act on."""


class ConfigError(ValueError):
    """Something in a file, an argument or a folder that the user can mend.

    The text names the place, the rule, the value and, where there is one, the near miss.  The
    command line prints it without a traceback and exits with code 2.
    """


class RunBusyError(RuntimeError):
    """Another process holds the lock of this run folder."""
