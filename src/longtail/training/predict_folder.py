"""``PredictionFolder``: predictions of one model with one setting; existing ones are skipped."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.errors import ConfigError
from longtail.files import replace_file, saving
from longtail.training.run_folder import environment_rank


@dataclass(frozen=True)
class PredictionFolder:
    """Where predictions of one task lie, which model made them (``made_by.json``), and of which files (``sources.json``).

    Args:
        path: The folder; another task may use it as well.
        kinds: Sub-folder -> suffix of its files; an image has one file in each.
    """

    path: Path
    kinds: Mapping[str, str]

    @property
    def made_by(self) -> Path:
        """First kind of every task -> what its results have in common: the model's fingerprint and the options."""
        return self.path / "made_by.json"

    @property
    def sources(self) -> Path:
        """First kind of every task -> name of an image -> size in bytes and time of change (ns) of its file."""
        return self.path / "sources.json"

    def file(self, kind: str, name: str) -> Path:
        """Result of an image."""
        return self.path / kind / f"{name}{self.kinds[kind]}"

    def holds(self, name: str) -> bool:
        """Whether all results of an image are there."""
        return all(self.file(kind, name).is_file() for kind in self.kinds)

    def prepare(
        self, images: Mapping[str, Path], made_by: Mapping[str, Any], *, overwrite: bool
    ) -> tuple[list[tuple[str, Path]], int]:
        """Images of this process that are to be predicted, and the number of its others.

        Args:
            images: Name -> file of all images.
            made_by: The model and the options; plain JSON values.
            overwrite: Whether to remove existing results and predict again.

        Raises:
            ConfigError: The folder holds results of another model or of other options, which would stay, or of other
                files that have the names of these; or it cannot be written.
        """
        self._settle(images, json.loads(json.dumps(made_by)), overwrite)
        mine = list(images.items())[environment_rank() :: environment_world_size()]
        if overwrite:  # those that a stopped command leaves must not be taken for new ones
            for name, _ in mine:
                for kind in self.kinds:
                    self.file(kind, name).unlink(missing_ok=True)
        wanted = [(name, path) for name, path in mine if not self.holds(name)]
        return wanted, len(mine) - len(wanted)

    def _settle(self, images: Mapping[str, Path], made_by: dict[str, Any], overwrite: bool) -> None:
        # in this order: whatever another process of this command has written, it has said before whose it is
        stay = {path for kind, suffix in self.kinds.items() for path in (self.path / kind).rglob(f"*{suffix}")}
        notes = self._notes(self.made_by)
        mine = next(iter(self.kinds))
        saved = notes.get(mine)
        if saved == made_by:
            self._settle_sources(mine, images, {} if overwrite else stay)
            return
        if overwrite:
            stay -= {self.file(kind, name) for kind in self.kinds for name in images}
        if stay:
            if saved is None:
                problem = f"{self.path} holds predictions, but no {self.made_by.name} to say of which model"
            else:
                told = [f"{k} {saved.get(k)} -> {v}" for k, v in made_by.items() if saved.get(k) != v]
                problem = f"{self.path} holds predictions of another model or with other options: {', '.join(told)}"
            if overwrite:
                some = min(stay).relative_to(self.path)
                problem += f"; {len(stay)} files of images that are not given would stay, such as {some}"
            raise ConfigError(
                problem,
                fix=f"give another --out, or {'remove them' if overwrite else 'predict all again with --overwrite'}",
            )
        self._settle_sources(mine, images, {})
        self.write(self.made_by, lambda part: part.write_text(json.dumps({**notes, mine: made_by}, indent=1) + "\n"))

    def _settle_sources(self, mine: str, images: Mapping[str, Path], stay: Collection[Path]) -> None:
        """Note the images' files; refuse one that has the name of another whose results ``stay``."""
        notes = self._notes(self.sources)
        saved, now = notes.get(mine, {}), {name: _state_of(path) for name, path in images.items()}
        for name, state in now.items():
            if saved.get(name, state) != state and all(self.file(kind, name) in stay for kind in self.kinds):
                raise ConfigError(
                    f"{self.file(mine, name)} is not of {images[name]} as it is now: of another file of that name, or "
                    "of an earlier version",
                    fix="give another --out, or predict all again with --overwrite",
                )
        if any(saved.get(name) != state for name, state in now.items()):
            told = json.dumps({**notes, mine: {**saved, **now}})
            self.write(self.sources, lambda part: part.write_text(told + "\n"))

    def write(self, path: Path, write: Callable[[Path], Any]) -> None:
        """Write a file of the folder, whole or not at all.

        Raises:
            ConfigError: The disk is full, or the folder cannot be written.
        """
        with saving(path, "free some space or name another --out; given again, predict goes on where it stopped"):
            replace_file(path, write, f".part{environment_rank() or ''}")  # several ranks may write the same file

    def _notes(self, path: Path) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):  # missing, or not ours
            return {}


def _state_of(path: Path) -> list[int] | None:
    """Size and modification time of a file, which tell it from one of the same name in another folder."""
    try:
        stat = path.stat()
    except OSError:  # reading it will say why
        return None
    return [stat.st_size, stat.st_mtime_ns]


def environment_world_size() -> int:
    """Number of processes as their launcher says, before a process group exists."""
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 1
