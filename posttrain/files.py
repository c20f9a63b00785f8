"""Records out of files: JSONL, JSON, CSV, TSV, Parquet, any of them gzipped, folders of them, the hub's data sets.

A record is whatever the file holds (mostly a dict) with the place it came from; formats.py turns records into rows.
JSON lines and Parquet above STREAM_FROM are read as they are used, the rest whole.
Left out on purpose: writing, credentials (the hub's own client has them).
"""

import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from posttrain import bundled
from posttrain.errors import UserError, nearest

EXTENSIONS = ("jsonl", "ndjson", "json", "csv", "tsv", "parquet")
LISTS = ("data", "rows", "examples", "train", "instances")  # where a JSON object that is a data set keeps its rows
NOT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json")
WHOLE = "mend it there; a file cut short has to be fetched or written again"
STREAM_FROM = 32 << 20  # bytes; smaller files are read at once, which tells more about what is wrong with them
PLAIN_SUFFIX = re.compile(r"\.(?!v\d)[A-Za-z]{2,5}$")  # a.yaml is a file that is missing, not a data set of owner a
HUB = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?::([\w.]+))?")  # owner/name[/config][:split]


class Record(NamedTuple):
    """value: what the file holds there. problem: why it cannot be read (then value is None). line counts from 1."""

    value: Any
    file: str
    line: int
    problem: str = ""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def records(source: str | Path) -> Iterator[Record]:
    """Records of a file, a folder, `bundled:name` or a hub data set. UserError when nothing can be read there."""
    found = resolve(source)
    if isinstance(found, str):
        yield from _hub(found)
        return
    for path in found:
        yield from _read(path)


def resolve(source: str | Path) -> list[Path] | str:
    """The files behind a source, or the id itself when it names a data set of the hub."""
    text = str(source)
    if text.startswith("bundled:"):
        return [bundled.rows(text.removeprefix("bundled:"))]
    path = Path(text).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        if extension(path) not in EXTENSIONS:
            _unknown(path)
        return [path]
    if HUB.fullmatch(text) and not PLAIN_SUFFIX.search(text) and not path.parent.is_dir():
        return text.removeprefix("hf:")
    if text.startswith("hf:"):
        raise UserError(f"{text!r} is not a data set id", remedy="hf:owner/name, hf:owner/name:split")
    near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
    raise UserError("there is no such file", where=text, remedy=_hint(path.name, near))


def identity(source: str | Path) -> str:
    """Digest of what a source holds: file names and bytes. A hub id stands for itself (nothing is fetched)."""
    found = resolve(source)
    if isinstance(found, str):
        return found
    whole = hashlib.sha256()
    for path in found:
        with path.open("rb") as f:
            whole.update(path.name.encode() + b"\0" + hashlib.file_digest(f, "sha256").digest())
    return whole.hexdigest()[:16]


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def feed(total: Any, path: Path) -> None:
    """Add a file's bytes to a hash of hashlib, a block at a time."""
    with path.open("rb") as f:
        hashlib.file_digest(f, lambda: total)


def digest_of_code(*modules: ModuleType) -> str:
    """Names rules by the source of the files they stand in: other rules, other name."""
    return hashlib.sha256(b"".join(Path(str(m.__file__)).read_bytes() for m in modules)).hexdigest()[:10]


def extension(path: Path) -> str:
    """'jsonl' for a.jsonl and a.jsonl.gz."""
    parts = path.name.lower().split(".")
    parts = parts[:-1] if parts[-1] == "gz" else parts
    return parts[-1] if len(parts) > 1 else ""


def _hint(name: str, near: list[str]) -> str:
    close = nearest(name, near) if near else ""
    return close if close.startswith("did you mean") else "check the path; it is read from the working directory"


def _unknown(path: Path) -> None:
    kinds = ", ".join(EXTENSIONS)
    if path.suffix in (".yaml", ".yml"):
        raise UserError("this is a recipe, not data", where=str(path), remedy=f"posttrain plan {path}")
    kind = f"files of this kind are not read: {path.suffix!r}" if path.suffix else "the name does not say what it holds"
    raise UserError(kind, where=str(path), remedy=f"rename it if it is one of {kinds}, gzipped or not")


def _folder(path: Path) -> list[Path]:
    files = sorted(p for p in path.rglob("*") if p.is_file() and extension(p) in EXTENSIONS and p.name not in NOT_DATA)
    files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not files:
        raise UserError("the folder holds no data files", where=str(path), remedy=f"put {', '.join(EXTENSIONS)} there")
    return files


def _read(path: Path) -> Iterator[Record]:
    kind = extension(path)
    if kind == "parquet":
        yield from _parquet(path)
        return
    if kind in ("jsonl", "ndjson") and path.stat().st_size > STREAM_FROM:
        yield from _stream(path)
        return
    text = _text(path)
    if not text.strip():
        _empty(path)
    if kind in ("csv", "tsv"):
        yield from _table(text, str(path), "\t" if kind == "tsv" else ",")
    elif _is_lines(text, kind):
        yield from _lines(text, str(path))
    else:
        yield from _document(text, str(path))


def _empty(path: Path) -> NoReturn:
    raise UserError("the file is empty", where=str(path), remedy="give a file with one row or more")


def _stream(path: Path) -> Iterator[Record]:
    """One record a line, one line in memory."""
    file = str(path)
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    _not_utf8(line, error.start, f"{file}:{number}")
                if text.strip():
                    yield _line(text, file, number)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        _broken_gzip(file)


def _text(path: Path) -> str:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error):
        _broken_gzip(str(path))
    except OSError as error:
        remedy = "check that it exists and that you may read it"
        raise UserError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from None
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _not_utf8(raw, error.start, f"{path}:{line}")


def _broken_gzip(where: str) -> NoReturn:
    raise UserError("this is not a whole gzip file", where=where, remedy="download or pack it again") from None


def _not_utf8(raw: bytes, at: int, where: str) -> NoReturn:
    if b"\0" in raw[:4096]:
        raise UserError("a binary file, no text", where=where, remedy=f"give one of {', '.join(EXTENSIONS)}") from None
    remedy = "save it as UTF-8, for example: iconv -f latin1 -t utf-8"
    raise UserError(f"not UTF-8 text: byte 0x{raw[at]:02x}", where=where, remedy=remedy) from None


def _is_lines(text: str, kind: str) -> bool:
    """One JSON value a line? Decided by the first line, whatever the file is called."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        json.loads(first)
    except ValueError:
        return kind != "json" and not first.rstrip().endswith(("[", "{", ","))
    return bool(rest.strip()) or kind != "json"


def _lines(text: str, file: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _line(line, file, number)


def _line(line: str, file: str, number: int) -> Record:
    try:
        return Record(json.loads(line), file, number)
    except (ValueError, RecursionError) as error:
        return Record(None, file, number, _json_problem(error))


def _json_problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
    return "not valid JSON"


def _document(text: str, file: str) -> Iterator[Record]:
    """A JSON array of rows, or an object that holds one (`data`, `rows` ...), or one row."""
    at = len(text) - len(text.lstrip())
    if text[at] == "[":
        yield from _array(text, at + 1, file)
        return
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(_json_problem(error), where=f"{file}:{error.lineno}", remedy=WHOLE) from None
    inner = [whole[k] for k in LISTS if isinstance(whole, dict) and isinstance(whole.get(k), list)]
    if len(inner) == 1 and len(whole) <= 3:
        yield from (Record(value, file, number) for number, value in enumerate(inner[0], 1))
    else:
        yield Record(whole, file, 1)


def _array(text: str, at: int, file: str) -> Iterator[Record]:
    """Elements one by one, so that each knows the line it starts on."""
    decode, blank = json.JSONDecoder().raw_decode, re.compile(r"[\s,]*")
    line, counted = 1, 0
    while True:
        skipped = blank.match(text, at)
        at = skipped.end() if skipped else at
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]":
            return
        try:
            value, at = decode(text, at)
        except json.JSONDecodeError as error:
            raise UserError(_json_problem(error), where=f"{file}:{error.lineno}", remedy=WHOLE) from None
        yield Record(value, file, line)


def _table(text: str, file: str, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)
    head = text[: text.find("\n")] if "\n" in text else text
    if delimiter not in head:  # as spreadsheets write it where the comma is a decimal mark
        delimiter = next((d for d in ";\t," if d in head), delimiter)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for row in reader:
            start, line = reader.line_num, start + 1
            if None in row:
                yield Record(None, file, line, f"more cells than the header has names ({len(row)} names)")
            else:
                yield Record({k: _cell(v) for k, v in row.items() if v not in (None, "")}, file, line)
    except csv.Error as error:
        remedy = 'close the quotes; a quote inside a cell is written twice ("")'
        raise UserError(f"not a valid table: {error}", where=f"{file}:{reader.line_num}", remedy=remedy) from None


def _cell(value: str) -> Any:
    """A cell that holds a JSON list or object is read as such (message lists in CSV files)."""
    if value[:1] in "[{" and value[-1:] in "]}":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError(
            "reading Parquet needs pyarrow", where=str(path), remedy='pip install "posttrain[parquet]"'
        ) from None
    try:
        zipped = path.name.lower().endswith(".gz")
        table = parquet.ParquetFile(io.BytesIO(gzip.decompress(path.read_bytes())) if zipped else path)
        if table.metadata.num_rows == 0:
            _empty(path)
        rows = (row for batch in table.iter_batches(batch_size=1024) for row in batch.to_pylist())
        yield from (Record(value, str(path), number) for number, value in enumerate(rows, 1))
    except (arrow.ArrowException, gzip.BadGzipFile, EOFError, OSError) as error:
        what = f"not a readable Parquet file: {str(error).splitlines()[0]}"
        raise UserError(what, where=str(path), remedy="fetch or write it again") from None


def _hub(text: str) -> Iterator[Record]:
    """Rows of owner/name[/config][:split], split train by default."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(
            "there is no such file; it looks like a data set of the Hugging Face hub, which needs the package datasets",
            where=text, remedy='pip install "posttrain[hub]", or give the path of a file',
        ) from None  # fmt: skip
    match = HUB.fullmatch(text)
    name, config, split = match.groups() if match else (text, None, None)
    try:
        data = load_dataset(name, config, split=split or "train")
    except Exception as error:  # the client raises dozens of kinds, from no network to a wrong split
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the hub's data set cannot be loaded: {first}", where=text,
            remedy="check the id, the split (owner/name:split) and the network, or download a file and give its path",
        ) from None  # fmt: skip
    yield from (Record(value, text, number) for number, value in enumerate(data, 1))
