"""The list of suspicious labels as a CSV file and a page of pictures."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.diagnosis.suspicious_labels import Suspicion, suspicion_rows
from longtail.files import make_folder, write_text
from longtail.reports.axes import GROUP_COLOURS
from longtail.reports.cells import Cell, Table, score_cell
from longtail.reports.html import Part, render
from longtail.reports.pictures import PictureRow, Swatch
from longtail.reports.sections import Block, Section

TRAINED_ON = (
    "The models were trained on these images: they may have learned wrong labels by heart, and those that they doubt "
    "are not the only ones."
)
_PICTURES = 100  # more would make the page too large


@dataclass(frozen=True)
class Suspicions:
    """What was found.

    Args:
        task: ``segmentation`` or ``detection``.
        suspicions: The surest first.
        class_names: Names of the classes.
        groups: Groups that were looked at.
        files: Image -> file name.
        photo: Image -> photograph; None for no pictures.
    """

    task: str
    suspicions: Sequence[Suspicion]
    class_names: Sequence[str]
    groups: Sequence[str]
    files: Mapping[Any, str]
    photo: Callable[[Any], Any] | None


def write_suspicions(found: Suspicions, folder: str | Path, *, trained_on_these: bool = False) -> Path:
    """Write ``suspicious.csv`` and ``suspicious.html``.

    Args:
        found: The suspicious labels.
        folder: Where to write.
        trained_on_these: Whether the models were trained on these images, which both files then say.

    Returns:
        The page.

    Raises:
        ConfigError: They cannot be written.
    """
    make_folder(Path(folder))
    rows = suspicion_rows(found.suspicions, found.class_names, found.files)
    names = ["image", "file", "annotation", "label", "suggested", "confidence", "left", "top", "right", "bottom"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*names, "trained_on_these"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "trained_on_these": trained_on_these} for row in rows)
    write_text(Path(folder) / "suspicious.csv", text.getvalue())
    lead = (
        f"Labels of {', '.join(found.groups)} classes that all models agree against, the surest first: "
        f"{len(rows)} to look at again. A model that is sure may still be wrong."
    )
    shown = (("table", _table(found) if rows else None), ("pictures", _pictures(found)))
    section = Section("suspicious", "Suspicious labels", lead, [Block(kind, of) for kind, of in shown if of])  # type: ignore[arg-type]
    part = Part("Suspicious labels", found.task, [section], [TRAINED_ON] if trained_on_these else [], "")
    return render([part], {}, Path(folder) / "suspicious.html")


def _table(found: Suspicions) -> Table:
    rows = []
    for s in found.suspicions:
        label = Cell("(none)") if s.label is None else Cell(found.class_names[s.label], index=s.label)
        suggested = Cell(found.class_names[s.suggested], index=s.suggested)
        rows.append([Cell(found.files.get(s.image, str(s.image))), label, suggested, score_cell(s.confidence)])
    return Table("", [("", ""), ("", "class"), ("", "called"), ("", "confidence, %")], rows)


def _pictures(found: Suspicions) -> list[PictureRow]:
    from longtail.diagnosis.crops import TRUE, as_jpeg, draw_boxes

    drawn = []
    for s in found.suspicions[:_PICTURES] if found.photo is not None else ():
        image = found.photo(s.image) if found.photo is not None else None
        if image is None:
            continue
        uri = f"data:image/jpeg;base64,{as_jpeg(draw_boxes(image, s.box, [(s.box, TRUE)]))}"
        label = "not labelled" if s.label is None else f"labelled {found.class_names[s.label]}"
        words = f"{label}, all models: {found.class_names[s.suggested]} ({100 * s.confidence:.0f} %)"
        named = [c for c in (s.label, s.suggested) if c is not None]
        swatches = [
            Swatch(found.class_names[c], "", GROUP_COLOURS[2 - i], found.class_names[c]) for i, c in enumerate(named)
        ]
        drawn.append(PictureRow(found.files.get(s.image, str(s.image)), [(words, uri)], swatches, small=True))
    return drawn
