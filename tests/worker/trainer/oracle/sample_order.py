"""The order of samples, written a second time from its rule (worker/data/permutation.h, blend.h, sample_stream.h, docs/numerics.md), so
that a change of the rule in one place is seen. Whole numbers only: Python's are unbounded, hence the masks."""

import pathlib

WORD = (1 << 64) - 1
SHARE_UNITS = 1 << 32


def mix(value):
    """The finalizer of SplitMix64."""
    value = (value + 0x9E3779B97F4A7C15) & WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def permuted(index, size, key):
    """Place `index` of a keyed order of [0, size): six Feistel rounds over an even number of bits, walked until the range is met."""
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = index >> half_bits, index & mask
        for feistel_round in range(6):
            left, right = right, left ^ (mix(key ^ mix((right * 6 + feistel_round) & WORD)) & mask)
        index = left << half_bits | right
        if index < size:
            return index


class Blend:
    """Which source gives the next sample: of the open windows [floor(j/w), ceil((j+1)/w)) the one that ends first."""

    def __init__(self, weights):
        total = sum(weights)
        self.shares = [max(1, int(weight / total * SHARE_UNITS + 0.5)) for weight in weights]
        self.total = sum(self.shares)

    def next(self, consumed):
        taken = sum(consumed)
        candidates = []
        for source, (count, share) in enumerate(zip(consumed, self.shares)):
            is_open = count * self.total // share <= taken
            end = -(-(count + 1) * self.total // share)
            candidates.append((not is_open, end, source))
        return min(candidates)[2]


def read_text(path):
    """The bytes of a file, or of the files of a directory in the order of their names."""
    path = pathlib.Path(path)
    if path.is_file():
        return path.read_bytes()
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    return b"".join(file.read_bytes() for file in files)


class SampleOrder:
    """The samples of a job's data.train, in their global order, as lists of sequenceLength + 1 tokens."""

    def __init__(self, data, seed):
        self.length = data["sequenceLength"]
        self.texts = [read_text(source["path"]) for source in data["train"]]
        self.sizes = [(len(text) - 1) // self.length for text in self.texts]
        self.blend = Blend([source.get("weight", 1.0) for source in data["train"]])
        self.seed = seed
        self.consumed = [0] * len(self.texts)

    def next(self):
        """(source, index) of the next sample."""
        source = self.blend.next(self.consumed)
        taken, size = self.consumed[source], self.sizes[source]
        self.consumed[source] += 1
        key = mix(self.seed & WORD) ^ mix(source + 1) ^ (taken // size << 1 & WORD)
        return source, permuted(taken % size, size, mix(key))

    def tokens(self, sample):
        source, index = sample
        return list(self.texts[source][index * self.length:(index + 1) * self.length + 1])
