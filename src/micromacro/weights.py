"""Weights: fetched once, used only if their SHA-256 is the known one, read without code."""

import hashlib
import json
import logging
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from micromacro.errors import BadInput, check_choice
from micromacro.files import existing, reading

CACHE_VARIABLE = "MICROMACRO_CACHE"
TIMEOUT_S = 30  # for the server's first answer and between two answers


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    Attributes:
        url: Where it is fetched; its last part is the file's name in the cache.
        size: Bytes.
        sha256: Hexadecimal digest, 64 characters.
    """

    url: str
    size: int
    sha256: str


_TABLE = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
WEIGHTS = {name: Weights(**values) for name, values in tomllib.loads(_TABLE).items()}
"""Name -> file; their licences are said in ``weights.toml``."""


def fetch_weights(
    name: str,
    *,
    path: str | Path | None = None,
    sha256: str | None = None,
    cache: str | Path | None = None,
) -> Path:
    """Return a local file with the named weights; the network is used only if there is none yet.

    Args:
        name: A key of `WEIGHTS`.
        path: Your own copy, taken instead of the cache; nothing is downloaded then.
        sha256: Digest of your own copy if it is not the registered file; only with `path`.
        cache: Folder of the cache. Default: the environment variable MICROMACRO_CACHE, else the
            platform's cache folder. A file there with a wrong digest is fetched again.

    Raises:
        BadInput: Unknown name; a file missing or with another SHA-256; download or cache failed.
            What was in the cache before is still there, and nothing else.
    """
    check_choice("weights", name, sorted(WEIGHTS))
    known = WEIGHTS[name]
    if path is not None:
        return own_file(path, sha256, known)[0]
    if sha256 is not None:
        raise BadInput("sha256", "given without a file of your own", "give its path as well")
    return _download(known, cache or os.environ.get(CACHE_VARIABLE))


def own_file(
    path: str | Path, sha256: str | None = None, known: Weights | None = None
) -> tuple[Path, str]:
    """A user's file of weights, and its SHA-256.

    Args:
        path: The file.
        sha256: What its digest must be; None for that of `known`, or for anything.
        known: The registered file that it stands for.

    Raises:
        BadInput: No such file, a folder, or another digest.
    """
    file = existing(path)
    if file.is_dir():
        raise BadInput(file, "a folder", "give the file itself")
    digest, expected = file_sha256(file), sha256 or (known and known.sha256)
    if expected and digest != expected.lower():
        remedy = "correct the SHA-256 that you gave, or the file"
        if sha256 is None:
            size = f"{known.size:,} bytes"
            remedy = f"get the right file ({size}), or pass this SHA-256 if you trust it"
        fault = f"SHA-256 is {digest} ({file.stat().st_size:,} bytes), expected {expected.lower()}"
        raise BadInput(file, fault, remedy)
    return file, digest


def unregistered_file(
    name: str, origin: str, path: str | Path | None, sha256: str | None = None
) -> tuple[Path, str]:
    """A user's file of published weights of which no SHA-256 is known, and its digest.

    Without `sha256` the digest is told on stderr, for the user to compare and to keep.

    Args:
        name: Of the weights, for messages.
        origin: Where the file is to be had; nothing is downloaded, as nothing could be checked.
        path: The file.
        sha256: What its digest must be.

    Raises:
        BadInput: No file, or not the right one.
    """
    if path is None:
        fault = "no file given, and none is downloaded because no SHA-256 of it is published"
        raise BadInput(f"weights {name!r}", fault, f"get {origin} and give its path as weights")
    file, digest = own_file(path, sha256)
    if sha256 is None:
        print(f"weights {name!r}: SHA-256 of {file} is {digest}, unchecked", file=sys.stderr)
    return file, digest


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_weights(file: Path, *, wrapped: bool = False) -> dict[str, Tensor]:
    """The named tensors of a file that torch saved.

    Args:
        file: The file, which exists.
        wrapped: Whether they may lie under "state_dict", as training programs like to save them.

    Raises:
        BadInput: It cannot be read, or holds anything else.
    """
    with reading(file, "weights", "download it again"):
        state = torch.load(file, map_location="cpu", weights_only=True)
    if wrapped and isinstance(state, Mapping):
        state = state.get("state_dict", state)
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise BadInput(file, "holds no state dict", "give a file of named tensors only")
    return dict(state)


def fill(net: nn.Module, state: Mapping[str, Tensor], file: Path, remedy: str) -> nn.Module:
    """Put tensors into a network: all that it has, in their shapes, and no other.

    Args:
        net: The network; its own tensors may be on the meta device.
        state: Tensors by name; the counters of batch norm, of no use in evaluation, may be missing.
        file: Where they come from, for the error.
        remedy: What a user can do about a file of another network.

    Returns:
        `net`.

    Raises:
        BadInput: A tensor is missing, has another shape, or is not the network's.
    """
    own = net.state_dict()
    counters = {name: torch.tensor(0) for name in own if name.endswith("num_batches_tracked")}
    state = counters | dict(state)
    for name in sorted(own.keys() | state.keys()):
        expected, given = (tuple(t[name].shape) if name in t else "none" for t in (own, state))
        if expected != given:
            fault = f"is of another network: {name} has shape {given}, expected {expected}"
            raise BadInput(file, fault, remedy)
    net.load_state_dict(state, assign=True)
    return net


def load_own(build: Callable[[], nn.Module], file: Path, target: str) -> nn.Module:
    """A network of this package with the weights that a program in ``tools/`` trained.

    Args:
        build: Makes the network.
        file: Its weights as float16, and what is said about them.
        target: What ``make`` is asked for, to make the file anew.

    Returns:
        The network in evaluation mode, its weights float32 and frozen, with ``about``: the recipe,
        the seed and the score.

    Raises:
        BadInput: There is no such file; it cannot be read, or is not of this network.
    """
    from safetensors import safe_open  # models are imported without it

    remedy = f"make it anew with make {target}, or take the file of the repository"
    with reading(file, "weights", remedy), safe_open(file, "pt") as opened:
        state = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
        about = json.loads((opened.metadata() or {})["about"])
    with torch.device("meta"):  # no random numbers: the file fills it
        net = build()
    fill(net, state, file, remedy).about = about
    return net.requires_grad_(False).eval()


def _download(known: Weights, cache: str | Path | None) -> Path:
    """Return the file from the cache if its digest is right, else fetch it (pooch: atomic)."""
    import pooch  # with requests a quarter of a second, and a file of your own needs neither

    file = Path(cache or pooch.os_cache("micromacro")) / known.url.rsplit("/", 1)[1]
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.WARNING)  # pooch tells stderr about every download
    try:
        pooch.retrieve(
            known.url,
            known_hash=f"sha256:{known.sha256}",
            fname=file.name,
            path=file.parent,
            downloader=pooch.HTTPDownloader(timeout=TIMEOUT_S),
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong digest is not
        cause = "what came has another SHA-256" if type(error) is ValueError else _cause(error)
        fault = f"not in the cache, and not to be had from {known.url} ({cause})"
        remedy = f"copy it ({known.size:,} bytes) into {file.parent} by hand, or give its path"
        raise BadInput(file, fault, remedy) from error
    finally:
        log.setLevel(level)
    return file


def _cause(error: Exception) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return f"HTTP {status}" if status else getattr(error, "strerror", None) or type(error).__name__
