"""Reads a checkpoint (docs/formats.md): the manifest says where the boxes of each tensor lie, the files are safetensors."""

import json
import pathlib
import struct

import torch

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "I64": torch.int64, "F64": torch.float64}


def read_file(path):
    """The tensors of a safetensors file by name."""
    content = bytearray(pathlib.Path(path).read_bytes())
    header_bytes, = struct.unpack("<Q", content[:8])
    header = json.loads(bytes(content[8:8 + header_bytes]))
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
            out[name] = torch.frombuffer(content[begin:end], dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return out


def newest(path):
    """The directory of the newest checkpoint below `path`."""
    return max(pathlib.Path(path).glob("step-*"))


def read_checkpoint(directory):
    """(manifest, whole tensors by name), put together from the boxes that the ranks wrote."""
    directory = pathlib.Path(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    files = {name: read_file(directory / name) for name in manifest["files"]}
    tensors = {}
    for name, entry in manifest["tensors"].items():
        whole = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]])
        for box in entry["boxes"]:
            part = whole
            for dim, (offset, length) in enumerate(zip(box["offset"], box["shape"])):
                part = part.narrow(dim, offset, length)
            part.copy_(files[box["file"]][name])
        tensors[name] = whole
    return manifest, tensors
