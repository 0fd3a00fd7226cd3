"""What scoring a trained run has in common for all tasks."""

from pathlib import Path
from typing import Any, NamedTuple

from longtail.distributed import barrier
from longtail.errors import ConfigError
from longtail.metrics.results import Results
from longtail.training.config import RunConfig
from longtail.training.config_file import from_dict, read_yaml, to_dict
from longtail.training.run_folder import RunFolder, environment_rank


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
        out: Folder to write into; the run folder where not given.
        split: Split to score; the validation split where not given.
        changes: Settings other than those of the run, as nested values.

    Raises:
        ConfigError: No split is named and the run has no validation split.
    """
    run = RunFolder(Path(run_dir))
    config: Any = from_dict(kind, {**read_yaml(run.settings), **(changes or {})})
    split = split or config.data.val_split
    if not split:
        raise ConfigError("the run has no validation split", fix="name the split to evaluate on")
    return ScoredRun(run, RunFolder(Path(out or run_dir)), config, split)
