"""A folder of exported rows as a Hugging Face data set: README.md, whose head says which file is what.

    datasets.load_dataset(folder, "pairs")      # a configuration for each kind of row, its files by split

Left out on purpose: uploading (huggingface_hub does that), Parquet (JSON Lines load as they are).
"""

from collections.abc import Mapping
from pathlib import Path

from posttrain.rows import canonical

Files = Mapping[str, Mapping[str, str]]  # configuration -> split -> file


def card(files: Files, *, name: str, description: str) -> str:
    """The text of README.md. JSON is YAML, so titles need no quoting rules of their own."""
    lines = ["---", f"pretty_name: {canonical(name)}", "configs:"]
    for config, splits in files.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, file in splits.items():
            lines += [f"  - split: {split}", f"    path: {file}"]
    return "\n".join([*lines, "---", "", f"# {name}", "", description, ""])


def write_card(folder: Path, files: Files, **about: str) -> Path:
    """README.md beside the files; those without a row are left out, since a reader finds no columns in them."""
    there = {c: {s: f for s, f in splits.items() if (folder / f).stat().st_size} for c, splits in files.items()}
    path = folder / "README.md"
    path.write_text(card({c: splits for c, splits in there.items() if splits}, **about), encoding="utf-8")
    return path
