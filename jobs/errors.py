"""Everything that can stop the program on purpose: one root, one leaf per exit code."""


class TreatmentLinesError(Exception):
    """What went wrong, where, and what to do, in one line and without any value from a person's row."""

    exit_code = 1


class ConfigurationError(TreatmentLinesError):
    """A study or site file says something the program does not understand."""

    exit_code = 10


class InputError(TreatmentLinesError):
    """An input is missing or not as its contract says."""

    exit_code = 11


class QualityError(TreatmentLinesError):
    """A critical expectation failed."""

    exit_code = 12


class DisclosureError(TreatmentLinesError):
    """Disclosure control refused to release an output."""

    exit_code = 13


class WarehouseLockedError(TreatmentLinesError):
    """Another run holds the warehouse."""

    exit_code = 14
