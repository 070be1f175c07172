"""Errors that a user can act on."""


class ConfigError(ValueError):
    """Something in a file, an argument or a folder that the user can mend.

    The text names the place, the rule, the value and, where there is one, the near miss.  The
    command line prints it without a traceback and exits with code 2.
    """


class RunBusyError(RuntimeError):
    """Another process holds the lock of this run folder."""


class DiskFullError(OSError):
    """There is no space for a file; what was there before is whole."""


class Superseded(BaseException):
    """Another process took the run over: this one must end and write nothing more.

    No Exception, since what starts runs answers an Exception by writing a result, and the result
    of a job that was started twice has one place.
    """


class RankLostError(RuntimeError):
    """Another process of a run on several is gone or does not answer."""
