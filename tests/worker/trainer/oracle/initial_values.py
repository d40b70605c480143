"""Initial values of the parameters, written a second time from their rule (worker/model/initial_values.h). Python's math and the
program's <cmath> are the same C library, so the values are the same bits."""

import math

import torch

from eager_llama import shapes

WORD = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(value):
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def key_of(seed, name):
    value = 0xCBF29CE484222325
    for letter in name.encode():
        value = ((value ^ letter) * 0x100000001B3) & WORD  # FNV-1a
    return mix((value + mix(seed & WORD)) & WORD)


def normal_values(key, count):
    def draw(number):
        return mix((key + (number + 1) * GOLDEN) & WORD) >> 11

    scale = 2.0 ** -53
    for index in range(count):
        radius = math.sqrt(-2.0 * math.log((draw(2 * index) + 1) * scale))
        yield radius * math.cos(2.0 * math.pi * (draw(2 * index + 1) * scale))


def of_parameter(name, shape, seed, layers):
    if len(shape) == 1:
        return torch.ones(shape)
    joins_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
    deviation = 0.02 / math.sqrt(2.0 * layers) if joins_residual else 0.02
    values = [deviation * value for value in normal_values(key_of(seed, name), math.prod(shape))]
    return torch.tensor(values, dtype=torch.float64).float().reshape(shape)


def of_model(size, seed):
    """All parameters by name."""
    return {name: of_parameter(name, shape, seed, size["layers"]) for name, shape in shapes(size).items()}
