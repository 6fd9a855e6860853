"""The kind of a file, told by its first bytes and the names in it; no code in it is run."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samestep.checkpoints import CheckpointError
from samestep.checkpoints import header as headers
from samestep.checkpoints.index import START, opened
from samestep.recording.spool import FORMAT as RECORDING

__all__ = ["MLX_ENTRIES", "OPTAX", "Kind", "kind_of"]

OPTAX = "samestep optax"
"""The format in the header of a state of optax that ``convert`` has written."""

MLX_ENTRIES = ("m", "v", "u", "exp_avg", "exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col")
"""The last part of the keys under which MLX keeps the state of a parameter."""

FOLDERS = {
    ".metadata": "a folder of torch.distributed.checkpoint",
    "_CHECKPOINT_METADATA": "a checkpoint of orbax",
    "_METADATA": "a checkpoint of orbax",
}
"""By the name of a file in the folder."""
BEGINNINGS = {
    b"\x93NUMPY": "an array of NumPy (.npy)",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, such as Keras writes",
    b"GGUF": "a GGUF file",
}
PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


@dataclass(frozen=True)
class Kind:
    """The kind of a file."""

    name: str
    words: str
    """The kind in words, to follow "this is"."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The metadata in the header of a safetensors file."""
    arrays: Mapping[str, Any] = field(default_factory=dict)
    """The arrays in that header, by name."""
    files: tuple[Path, ...] = ()
    """All files that belong to it."""

    @property
    def nbytes(self) -> int:
        """The number of bytes of its files that exist."""
        return sum(path.stat().st_size for path in self.files if path.exists())


def kind_of(path: Path) -> Kind:
    """Tell the kind of a file.

    Raises:
        OSError: the file cannot be read.
        CheckpointError: the file begins like a safetensors file, and is not one.
    """
    if path.is_dir():
        named = (words for name, words in FOLDERS.items() if (path / name).exists())
        return Kind("folder", next(named, "a folder"))
    try:
        with opened(path) as file:
            begin = file.read(len(START))
        found = _kind(path, begin)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return replace(found, files=found.files or (path,))


def _kind(path: Path, begin: bytes) -> Kind:
    if begin == START:
        return _index(path)
    if begin[8:9] == b"{":
        return _safetensors(path)
    if begin.startswith(b"PK\x03\x04"):
        return _archive(path)
    if begin.lstrip()[:1] == b"{":
        return _json(path)
    return _by_beginning(begin)


def _by_beginning(begin: bytes) -> Kind:
    if begin.startswith(PICKLES):
        return Kind(
            "pickle",
            "a pickle, which is never loaded, since that would run what is in it; if torch.save "
            "has written it in its old format, load it where you trust it and save it again",
        )
    for start, words in BEGINNINGS.items():
        if begin.startswith(start):
            return Kind("other", words)
    return Kind("unknown", "no file that is known here" if begin else "empty")


def _index(path: Path) -> Kind:
    """An index of samestep; ``read`` checks it."""
    index = headers.json_of("the index", path.read_text(encoding="utf-8", errors="replace"))
    texts, names = index.get("metadata"), index.get("weight_map")
    if not isinstance(texts, dict) or not isinstance(names, dict):
        raise CheckpointError("the index has no metadata and weight_map")
    parts = dict.fromkeys(path.with_name(Path(str(name)).name) for name in names.values())
    return Kind("samestep", "a checkpoint of samestep", texts, files=(path, *parts))


def _safetensors(path: Path) -> Kind:
    size = path.stat().st_size - 8
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size, headers.LARGEST):
            raise CheckpointError(
                f"this begins like a safetensors file with a header of {length:,} bytes, and there "
                f"are {size:,}; it has been cut off, or is another file"
            )
        texts, arrays = _header(file.read(length))
    if texts.get("format") == "samestep":
        if "set" in texts and "rules" not in texts:
            return Kind(
                "shard",
                "one of the files over which a checkpoint of samestep is spread; give the file "
                f"that save was given, whose files have -{texts['set']}- in their names",
                texts,
                arrays,
            )
        return Kind("samestep", "a checkpoint of samestep", texts, arrays)
    if texts.get("format") == RECORDING:
        return Kind("recording", "a recording of a run, which samestep replay recomputes", texts)
    if texts.get("format") == OPTAX:
        words = f"the state of a transformation of optax, {texts.get('transformation')}"
        return Kind("optax", words, texts, arrays)
    if _is_mlx(arrays):
        unsaid = "an optimizer of mlx.optimizers, which does not say its class and its numbers"
        words = f"the state of {texts.get('optimizer', unsaid)}"
        return Kind("mlx", words, texts, arrays)
    words = "an ordinary safetensors file, such as of a model's parameters; no optimizer state"
    return Kind("safetensors", words, texts, arrays)


def _header(text: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """Texts and arrays; MLX writes null where it has no texts."""
    found = headers.json_of("the header", text.decode(errors="replace"))
    texts = found.pop("__metadata__", None) or {}
    if not isinstance(texts, dict):
        raise CheckpointError("the header's metadata must be texts by name")
    return {str(name): str(value) for name, value in texts.items()}, found


def _is_mlx(keys: Iterable[str]) -> bool:
    """Whether the keys are of a flattened state of MLX, of one optimizer or of several."""
    names = {re.sub(r"^states\.\d+\.", "", key) for key in keys}
    entries = {name for name in names if "." in name and name.rpartition(".")[2] in MLX_ENTRIES}
    return "step" in names and names == entries | {"step"} | (names & {"learning_rate"})


def _archive(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return Kind("unknown", "a damaged zip archive, such as torch.save writes")
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return Kind("torch", "a file of torch.save")
    if names and all(name.endswith(".npy") for name in names):
        return Kind("other", "arrays of NumPy (.npz)")
    if "model.weights.h5" in names:
        return Kind("other", "a model of Keras")
    return Kind("other", "a zip archive")


def _json(path: Path) -> Kind:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return Kind("unknown", "a text, or a damaged file")
    if isinstance(found, dict) and isinstance(found.get("weight_map"), dict):
        words = "the index of ordinary safetensors files, such as of a model's parameters"
        return Kind("other", words)
    return Kind("other", "a JSON text")
