"""The one base of every error that a person can mend."""


class UserError(Exception):
    """Wrong input, a missing tool, a limit: the message says where, what and what would work."""
