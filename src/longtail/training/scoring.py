"""What scoring a trained run has in common for all tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from longtail.datasets.photographs import PhotoFormat
from longtail.distributed import barrier
from longtail.errors import ConfigError, DataError
from longtail.metrics.results import Results
from longtail.settings import differences, from_dict, read_yaml, to_dict
from longtail.training.config import RunConfig
from longtail.training.metrics_file import measured
from longtail.training.run_folder import RunFolder, environment_rank

#: Settings that may differ in the run's own evaluation: the scores are the same.
_FREE = ("loading.", "evaluation.pictures")


def check_same_photos(dataset: object, photos: PhotoFormat) -> None:
    """Refuse photographs that are read in another way than those that a model was trained on.

    Raises:
        DataError: Bands, range or pages differ.
    """
    read = getattr(dataset, "photos", None)
    if read is not None and read != photos:
        raise DataError(
            f"the data set reads photographs as {read.options() or 'RGB bytes'}, the model reads "
            f"{photos.options() or 'RGB bytes'}",
            fix="open the data set with photos=model.photos",
        )


class ScoredRun(NamedTuple):
    """A run that is to be scored.

    Attributes:
        run: Its folder.
        target: Folder to write into.
        config: Its settings, changes made: a ``RunConfig`` of its task.
        split: Split to score.
    """

    run: RunFolder
    target: RunFolder
    config: Any
    split: str

    def arguments(self) -> dict[str, Any]:
        """Arguments that the evaluations of all tasks share."""
        config = self.config
        return {
            "pictures": config.evaluation.pictures,
            "pictures_dir": self.target.pictures,
            "limit": config.data.limit,
            "data": {"name": config.data.dataset, "split": self.split},
            "settings": to_dict(config),
            "seed": config.seed,
        }

    def keep(self, results: Results) -> Results:
        """Write the results, on the first rank; all ranks go on together."""
        results.training = measured(self.run.metrics)
        if environment_rank() == 0:
            results.save(self.target.results)
        barrier()
        return results


def run_to_score(
    kind: type[RunConfig],
    run_dir: str | Path,
    out: str | Path | None,
    split: str | None,
    changes: dict[str, Any] | None,
) -> ScoredRun:
    """Settings and folders of a run.

    Args:
        kind: Class of its settings.
        run_dir: Run folder.
        out: Folder to write into; the run folder where not given, which takes no scores of another split or with other
            settings than the run's: reports compare what lies there.
        split: Split to score; the validation split where not given.
        changes: Settings other than those of the run, as nested values.

    Raises:
        ConfigError: No split is named and the run has no validation split, or the run folder is to take scores that
            are not its own.
    """
    run, target = RunFolder(Path(run_dir)), RunFolder(Path(out or run_dir))
    settings = read_yaml(run.settings)
    own: Any = from_dict(kind, settings)
    config: Any = from_dict(kind, {**settings, **(changes or {})})
    split = split or config.data.val_split
    if not split:
        raise ConfigError("the run has no validation split", fix="name the split to evaluate on")
    if target.path.resolve() == run.path.resolve():
        changed = differences(to_dict(own), to_dict(config))
        other = [f"{key} {new}" for key, (_, new) in changed.items() if not key.startswith(_FREE)]
        if own.data.val_split and split != own.data.val_split:
            other.insert(0, f"split {split}")
        if other:
            raise ConfigError(
                f"{run.results} is for the run's own validation, not for scores with {', '.join(other)}",
                fix="name a folder for these scores with --out (out=)",
            )
    return ScoredRun(run, target, config, split)


def check_same_classes(who: str, names: Sequence[str], other: str, others: Sequence[str], *, fix: str) -> None:
    """Refuse other classes, or the same in another order.

    Args:
        who: Whose ``names`` they are, in the error.
        names: Names of classes, in order.
        other: Whose ``others`` they are.
        others: The names that they should equal.
        fix: The way out.

    Raises:
        DataError: They differ; names the first difference.
    """
    if tuple(names) != tuple(others):
        unlike = [i for i, (a, b) in enumerate(zip(names, others, strict=False)) if a != b]
        first = f"; class {unlike[0]} is {names[unlike[0]]!r} and {others[unlike[0]]!r}" if unlike else ""
        raise DataError(f"{who} has {len(names)} classes and {other} {len(others)}{first}", fix=fix)
