"""Croissant metadata for a folder of exported rows (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html).

One JSON-LD document that names each file with its digest and each field with its type. Left out on purpose: the
responsible-AI vocabulary, and reading Croissant.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from posttrain.rows import Row

VERSION = "http://mlcommons.org/croissant/1.1"
# Short names for Croissant's terms, as the specification's appendix 1 defines them.
TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
MESSAGE = {"role": "sc:Text", "content": "sc:Text"}
# What a row's fields are; a dict: an object of fields; a list: several of them. Other fields are not described.
FIELDS: dict[str, Any] = {
    "id": "sc:Text", "prompt": [MESSAGE], "messages": [MESSAGE], "answers": [MESSAGE], "chosen": MESSAGE,
    "rejected": MESSAGE, "answer": MESSAGE, "margin": "sc:Float", "soft": "sc:Float", "ranks": ["sc:Integer"],
    "value": "sc:Float", "label": "sc:Boolean", "source": "sc:Text", "annotator": "sc:Text", "category": "sc:Text",
    "reason": "sc:Text",
}  # fmt: skip


def croissant(
    folder: Path,
    files: Mapping[str, type[Row]],
    *,
    name: str,
    description: str,
    licence: str = "https://spdx.org/licenses/Apache-2.0",
    creator: str = "posttrain",
    url: str = "",
    version: str = "1.0.0",
    published: float | None = None,
) -> dict[str, Any]:
    """The metadata of JSON lines files (file name -> kind of row) in a folder; published: Unix seconds, else now."""
    day = datetime.now(UTC) if published is None else datetime.fromtimestamp(published, UTC)
    return {
        "@context": _context(), "@type": "sc:Dataset", "conformsTo": VERSION, "name": name,
        "description": description, "license": licence, "url": url or f"urn:posttrain:{name}", "version": version,
        "creator": {"@type": "sc:Organization", "name": creator}, "datePublished": day.date().isoformat(),
        "distribution": [_file(folder / file) for file in files],
        "citeAs": f"{name}, version {version}, {day.year}",
        "recordSet": [_records(folder / file, kind) for file, kind in files.items()],
    }  # fmt: skip


def write_croissant(folder: Path, files: Mapping[str, type[Row]], **about: Any) -> Path:
    """croissant.json beside the files."""
    path = folder / "croissant.json"
    path.write_text(json.dumps(croissant(folder, files, **about), indent=2, ensure_ascii=False) + "\n")
    return path


def _context() -> dict[str, Any]:
    typed = {"data": "@json", "examples": "@json", "dataType": "@vocab"}
    return {
        "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
        **{term: f"cr:{term}" for term in TERMS},
        **{term: {"@id": f"cr:{term}", "@type": kind} for term, kind in typed.items()},
    }  # fmt: skip


def _file(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    return {
        "@type": "cr:FileObject", "@id": path.name, "name": path.name, "contentUrl": path.name,
        "contentSize": f"{len(raw)} B", "encodingFormat": "application/jsonlines",
        "sha256": hashlib.sha256(raw).hexdigest(),
    }  # fmt: skip


def _records(path: Path, kind: type[Row]) -> dict[str, Any]:
    """The fields that occur in the file: a row leaves out what holds its default, and a reader looks for a column."""
    name = path.name.split(".")[0]
    with path.open(encoding="utf-8") as lines:
        found = {key for line in lines if line.strip() for key in json.loads(line)}
    known = [f for f in kind.model_fields if f in FIELDS and f in found]
    return {
        "@type": "cr:RecordSet", "@id": name, "name": name, "description": (kind.__doc__ or "").strip(),
        "field": [_field(f"{name}/{f}", f, FIELDS[f], path.name) for f in known],
    }  # fmt: skip


def _field(identity: str, column: str, what: Any, file: str) -> dict[str, Any]:
    several = isinstance(what, list)
    inner = what[0] if several else what
    found: dict[str, Any] = {"@type": "cr:Field", "@id": identity, "name": identity.partition("/")[2]}
    if several:
        found |= {"repeated": True}
    if isinstance(inner, str):
        return found | {"dataType": inner, "source": {"fileObject": {"@id": file}, "extract": {"column": column}}}
    parts = [_part(f"{identity}/{key}", key, kind, column, file, several) for key, kind in inner.items()]
    return found | {"source": {"fileObject": {"@id": file}, "extract": {"column": column}}, "subField": parts}


def _part(identity: str, key: str, kind: str, column: str, file: str, several: bool) -> dict[str, Any]:
    """A field of a message, taken out of its column by a JSON path."""
    path = f"$[*].{key}" if several else f"$.{key}"
    source = {"fileObject": {"@id": file}, "extract": {"column": column}, "transform": {"jsonPath": path}}
    return {
        "@type": "cr:Field",
        "@id": identity,
        "name": identity.partition("/")[2],
        "dataType": kind,
        "source": source,
    }
