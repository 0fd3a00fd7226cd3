"""All errors of the library: the problem with the value or file, and the way out."""


class LongtailError(Exception):
    """Base of all errors that a user can correct.

    Args:
        problem: The problem; names the file or value.
        fix: The way out, in the imperative.
    """

    exit_code = 1

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem = problem
        self.fix = fix
        super().__init__(f"{problem}\n  fix: {fix}")

    def __reduce__(self) -> tuple:
        """Support pickling: data-loading workers send errors to other processes."""
        return _rebuild, (type(self), self.problem, self.fix)


def _rebuild(kind: type[LongtailError], problem: str, fix: str) -> LongtailError:
    return kind(problem, fix=fix)


class ConfigError(LongtailError, ValueError):
    """An argument, setting or combination of them that cannot work."""

    exit_code = 2


class DataError(LongtailError, ValueError):
    """A data set, image, label or annotation file that cannot be used."""

    exit_code = 2


class CheckpointError(LongtailError, ValueError):
    """Weights or training state that do not fit the model, or cannot be trusted."""

    exit_code = 2


class MissingDependencyError(LongtailError, ImportError):
    """An optional package that is not installed."""

    exit_code = 2


class TrainingError(LongtailError, RuntimeError):
    """Training that cannot continue: a loss that is not finite, a full disk."""


class ExportError(LongtailError, RuntimeError):
    """A model that cannot be exported as it was asked."""
