"""The errors a user meets. Each message says what was wrong, with which value, and what to do."""

from __future__ import annotations


class OrchestratorError(Exception):
    """Anything this package reports on purpose."""


class ConfigError(OrchestratorError):
    """The configuration is wrong: one line with the key, the value and what is allowed. Exit code 2."""


class EngineError(OrchestratorError):
    """An engine did not start, or stopped. ``cause`` names why in one word; the message ends with the log's
    tail and the command that runs it by hand."""

    def __init__(self, message: str, cause: str = "crash") -> None:
        super().__init__(message)
        self.cause = cause

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, str]]:
        return (type(self), (str(self.args[0]), self.cause))  # Ray pickles it with its cause


class MeasurementError(OrchestratorError):
    """One cell could not be measured; the engine may be well."""


class ClaimLostError(MeasurementError):
    """Another driver of the study has taken the cell over: nothing of it is stored here."""


class StorageError(OrchestratorError):
    """Results cannot be stored any more, so nothing more is measured; what was finished is kept."""
