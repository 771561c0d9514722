"""What the frame network starts from. The paper's own checkpoint was not released.

The paper trains a ResNet-18 on ImageNet, then on 1,000 pictures of each merged class of AffectNet. The
released program takes from a file each tensor whose name and shape fit and skips the rest. So it is
done here. ImageNet's first convolution, 7 x 7 on three channels, does not fit; its batch norm does,
though it was trained behind another convolution.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from micromacro.backbones import file_sha256, read_weights
from micromacro.errors import BadInput
from micromacro.files import existing
from micromacro.weights import fetch_weights

COUNTER = "num_batches_tracked"  # of batch norm; of no use here, and old files lack it
STEM = {"conv1.": "stem.0.", "bn1.": "stem.1."}  # torchvision's names, and ours


@dataclass(frozen=True, eq=False)
class Start:
    """Weights to start from.

    Attributes:
        file: None for a random start.
        sha256: Of the file.
        tensors: By our names.
    """

    file: Path | None
    sha256: str | None
    tensors: dict[str, Tensor]

    @property
    def name(self) -> str:
        """The file's, or "random"."""
        return self.file.name if self.file else "random"

    @classmethod
    def named(cls, weights: str | None, sha256: str | None = None) -> "Start":
        """By the arguments of `unit`.

        Args:
            weights: None; "imagenet", torchvision's ResNet-18, fetched once (47 MB); or your file: a
                state dict of a `FrameNet`, a `StillNet` or a ResNet-18 with torchvision's names,
                saved by torch.
            sha256: What the digest of your file must be.

        Raises:
            BadInput: No such file, another digest, no state dict; a digest without a file.
        """
        if weights is None:
            if sha256 is not None:
                raise BadInput("sha256", "given without weights", "give their file as well")
            return cls(None, None, {})
        if weights == "imagenet":
            file = fetch_weights("resnet18_imagenet", sha256=sha256)
        else:
            file = existing(weights)
        if file.is_dir():
            raise BadInput(file, "a folder", "give the file itself")
        digest = file_sha256(file)
        if sha256 is not None and sha256.lower() != digest:
            fault = f"SHA-256 is {digest}, expected {sha256.lower()}"
            raise BadInput(file, fault, "correct the SHA-256 that you gave, or the file")
        tensors = read_weights(file, wrapped=True)
        return cls(file, digest, {_our_name(name): tensor for name, tensor in tensors.items()})

    def fitting(self, frame_net: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
        """The tensors that fit by name and shape, and the names of the network's that none fits.

        Raises:
            BadInput: There is a file, and none fits.
        """
        wanted = {k: t for k, t in frame_net.state_dict().items() if not k.endswith(COUNTER)}
        fit = {
            name: self.tensors[name]
            for name, tensor in wanted.items()
            if name in self.tensors and self.tensors[name].shape == tensor.shape
        }
        if self.file is not None and not fit:
            fault = f"none of its {len(self.tensors)} tensors fits the frame network"
            raise BadInput(self.file, fault, "give a FrameNet's, a StillNet's or a ResNet-18's")
        return fit, [name for name in wanted if name not in fit]


def _our_name(name: str) -> str:
    name = re.sub(r"^(module\.)?(frame_net\.)?", "", name)
    for theirs, ours in STEM.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
