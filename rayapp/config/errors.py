"""The two ways in which a job ends early on purpose; both print one line and no traceback."""


class UserError(Exception):
    """Wrong use: names what is wrong, where, and what to do. Exit code 2."""


class NoInput(UserError):
    """There is nothing to work on; of a followed folder: not yet."""


class NotWritable(UserError):
    """The output takes nothing; of a followed folder: not now."""


class JobFailed(Exception):
    """The job could not do its work although it was asked rightly. Exit code 1."""
