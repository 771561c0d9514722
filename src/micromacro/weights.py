"""Weights that are not in a wheel: fetched once, used only if their SHA-256 is the known one."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from micromacro.errors import BadInput
from micromacro.files import existing

CACHE_VARIABLE = "MICROMACRO_CACHE"
TIMEOUT_S = 30  # for the server's first answer and between two answers


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    Attributes:
        url: Where it is fetched; its last part is the file's name in the cache.
        size: Bytes.
        sha256: Hexadecimal digest, 64 characters.
        licence: SPDX name.
        what: What it is, for people.
    """

    url: str
    size: int
    sha256: str
    licence: str
    what: str


WEIGHTS = {
    "yunet": Weights(
        url="https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/"
        "face_detection_yunet/face_detection_yunet_2023mar.onnx",
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        licence="MIT",
        what="YuNet face detector, OpenCV Zoo, March 2023",
    ),
    "resnet50_imagenet": Weights(
        url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        size=102_530_333,
        sha256="0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        licence="BSD-3-Clause",
        what="ResNet-50 on ImageNet, torchvision's IMAGENET1K_V1",
    ),
    "resnet18_imagenet": Weights(
        url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
        size=46_830_571,
        sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        licence="BSD-3-Clause",
        what="ResNet-18 on ImageNet, torchvision's IMAGENET1K_V1",
    ),
}


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
    if name not in WEIGHTS:
        raise BadInput(f"weights {name!r}", "unknown", f"known are: {', '.join(sorted(WEIGHTS))}")
    known = WEIGHTS[name]
    if path is not None:
        return _verified(existing(path), known, sha256)
    if sha256 is not None:
        raise BadInput("sha256", "given without a file of your own", "give its path as well")
    return _download(known, cache or os.environ.get(CACHE_VARIABLE))


def _verified(file: Path, known: Weights, sha256: str | None) -> Path:
    if file.is_dir():
        raise BadInput(file, "a folder", "give the file itself")
    wanted = (sha256 or known.sha256).lower()
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wanted:
        fault = f"SHA-256 is {found} ({file.stat().st_size:,} bytes), expected {wanted}"
        remedy = f"get the right file ({known.size:,} bytes), or pass this SHA-256 if you trust it"
        if sha256 is not None:
            remedy = "correct the SHA-256 that you gave, or the file"
        raise BadInput(file, fault, remedy)
    return file


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
        remedy = (
            f"copy the file ({known.size:,} bytes) into {file.parent} by hand, or give its path"
        )
        raise BadInput(file, fault, remedy) from error
    finally:
        log.setLevel(level)
    return file


def _cause(error: Exception) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return f"HTTP {status}" if status else getattr(error, "strerror", None) or type(error).__name__
