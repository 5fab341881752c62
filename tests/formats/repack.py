"""Take a .safetensors file of ours apart, and put it together again with what was changed in it."""

import base64
import json
from typing import Any

import numpy as np
import zstandard
from safetensors.numpy import load, save

from sparsity.formats.header import dump_header


def metadata(content: bytes) -> dict[str, str]:
    """What stands under __metadata__."""
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A file's content -> its description, and its tensors' bytes by name."""
    compressed = base64.b64decode(metadata(content)["description"])
    return json.loads(zstandard.ZstdDecompressor().decompress(compressed)), load(content)


def pack(description: object, tensors: dict[str, np.ndarray]) -> bytes:
    """The same, back; the header's own checksum is right."""
    return save(tensors, dump_header(description))
