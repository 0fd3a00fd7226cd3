"""Write configs/{medoe,mec}/: every run of both papers at its published schedule, one flat YAML a run.

    python scripts/write_configs.py

They come from the tables of ``longtail reproduce``, so that there is one place to mend; a test keeps them in step.
"""

from pathlib import Path

import yaml

from longtail.reproduce.catalogue import PAPERS, Catalogue, budget
from longtail.reproduce.plan import run_settings

CONFIGS = Path(__file__).parents[1] / "configs"
#: Part of a paper -> data set as a user names it.
ROOTS = {
    "cityscapes": "cityscapes:data/cityscapes",
    "ade20k": "ade20k:data/ADEChallengeData2016",
    "lvis": "lvis:data/lvis",
    "coco_lt": "coco:data/coco",
}


def configs() -> dict[Path, str]:
    """Path below ``configs/`` -> text of every file."""
    found: dict[Path, str] = {}
    for catalogue in map(Catalogue, PAPERS):
        asked: dict[tuple[str, str], list[str]] = {}
        for name in catalogue.names:
            for part in catalogue.parts(name):
                for run in catalogue.experiment(name, part).runs:
                    asked.setdefault((part, run), []).append(name)
        for (part, run), names in sorted(asked.items()):
            settings = run_settings(catalogue, part, run, data=ROOTS[part], budget=budget("paper"))
            model, method = run.split("/")
            first = catalogue.methods[method].get("start_from")
            start = f"# Begin with `--from` the run of {model}-{first}.yaml.\n" if first else ""
            text = (
                f"# {catalogue.paper.upper()} {', '.join(names)}, {part}: {model}, {method}. "
                f"Written by scripts/write_configs.py.\n{start}"
                + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
            )
            found[Path(catalogue.paper) / part / f"{model}-{method}.yaml"] = text
    return found


def main() -> None:
    """Write them all; those that no table asks for any more are deleted."""
    written = configs()
    for path in (p for paper in PAPERS for p in (CONFIGS / paper).rglob("*.yaml")):
        if path.relative_to(CONFIGS) not in written:
            path.unlink()
    for path, text in written.items():
        (CONFIGS / path).parent.mkdir(parents=True, exist_ok=True)
        (CONFIGS / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
