"""A Llama in eager PyTorch, as short as it can be: RMSNorm, rotary positions in the half-rotation convention, grouped-query attention,
SwiGLU. Parameters are a dictionary by their Hugging Face names. B sequences, T tokens, D width, N heads, H head width."""

import torch
from torch.nn import functional


def shapes(size):
    """Name and shape of every parameter, in name order."""
    width, feed_forward = size["hiddenSize"], size["feedForwardSize"]
    key_value_width = size.get("keyValueHeads", size["heads"]) * (width // size["heads"])
    out = {"model.embed_tokens.weight": (size["vocabularySize"], width), "model.norm.weight": (width,)}
    if not size.get("tieEmbeddings"):
        out["lm_head.weight"] = (size["vocabularySize"], width)
    for layer in range(size["layers"]):
        at = f"model.layers.{layer}."
        out[at + "input_layernorm.weight"] = (width,)
        out[at + "self_attn.q_proj.weight"] = (width, width)
        out[at + "self_attn.k_proj.weight"] = (key_value_width, width)
        out[at + "self_attn.v_proj.weight"] = (key_value_width, width)
        out[at + "self_attn.o_proj.weight"] = (width, width)
        out[at + "post_attention_layernorm.weight"] = (width,)
        out[at + "mlp.gate_proj.weight"] = (feed_forward, width)
        out[at + "mlp.up_proj.weight"] = (feed_forward, width)
        out[at + "mlp.down_proj.weight"] = (width, feed_forward)
    return dict(sorted(out.items()))


def rope_tables(size, length):
    """cos and sin, [T, H]: the angle of position t and pair i is t · theta^(-2i/H); the pairs (i, i + H/2) rotate together."""
    head = size["hiddenSize"] // size["heads"]
    frequencies = 1.0 / (size.get("ropeTheta", 10000.0) ** (torch.arange(0, head, 2, dtype=torch.float32) / head))
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


WORD = (1 << 32) - 1


def times(factor, x):
    """The high and low word of factor · x, both below 2^32: a product of 64 bits has no room in an int64."""
    low = (factor & 0xFFFF) * x
    high = (factor >> 16) * x + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | low & 0xFFFF


def philox(counter, seed):
    """Philox4x32-10 of Random123: four words for each counter of four words, as int64."""
    a, b, c, d = counter
    key = [seed & WORD, seed >> 32]
    for _ in range(10):
        (high_a, low_a), (high_c, low_c) = times(0xD2511F53, a), times(0xCD9E8D57, c)
        a, b, c, d = high_c ^ b ^ key[0], low_c, high_a ^ d ^ key[1], low_a
        key = [key[0] + 0x9E3779B9 & WORD, key[1] + 0xBB67AE85 & WORD]
    return a, b, c, d


class Llama:
    """`parameters`: leaves by name. A tied head is a leaf of its own, which shares the embedding's storage: its gradient has an
    accumulator of its own, and is added last."""

    def __init__(self, size, parameters, dropout=0.0, seed=0):
        self.size, self.dropout, self.seed = size, dropout, seed
        self.parameters = parameters
        self.leaves = dict(parameters)
        if size.get("tieEmbeddings"):
            self.leaves["tied head"] = parameters["model.embed_tokens.weight"].detach().requires_grad_()
        self.head = self.leaves["tied head" if size.get("tieEmbeddings") else "lm_head.weight"]

    def tables(self, length):
        return rope_tables(self.size, length)

    def norm(self, x, name):
        return functional.rms_norm(x, (x.size(-1),), self.parameters[name], self.size.get("normEpsilon", 1.0e-5))

    def attention(self, x, at, cos, sin):
        batch, length, width = x.shape
        heads = self.size["heads"]
        groups = self.size.get("keyValueHeads", heads)

        def project(name, count):
            return functional.linear(x, self.parameters[at + name]).view(batch, length, count, width // heads).transpose(1, 2)

        q = rotate(project("q_proj.weight", heads), cos, sin)
        k = rotate(project("k_proj.weight", groups), cos, sin)
        v = project("v_proj.weight", groups)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=groups != heads)
        return functional.linear(out.transpose(1, 2).reshape(batch, length, width), self.parameters[at + "o_proj.weight"])

    def feed_forward(self, x, at):
        gate = functional.silu(functional.linear(x, self.parameters[at + "gate_proj.weight"]))
        up = functional.linear(x, self.parameters[at + "up_proj.weight"])
        return functional.linear(gate * up, self.parameters[at + "down_proj.weight"])

    def drop(self, x, site, first_token):
        if self.dropout == 0:
            return x
        batch, length, width = x.shape
        tokens = torch.arange(batch * length, dtype=torch.int64)[:, None] + first_token
        fours = torch.arange((width + 3) // 4, dtype=torch.int64)[None, :]
        words = philox((tokens & WORD, tokens >> 32, fours, torch.tensor(site)), self.seed)
        words = torch.stack([word.expand(tokens.size(0), fours.size(1)) for word in words], dim=-1).flatten(1)[:, :width]
        factor = torch.where(words < round(self.dropout * 2**32), 0.0, torch.tensor(1 / (1 - self.dropout)))
        return (x.float() * factor.view_as(x)).to(x.dtype)

    def logits(self, tokens_BT, first_token=0):
        """`first_token`: the number of the first one among all that are trained on, by which dropout drops."""
        cos, sin = (table.to(self.head.dtype) for table in self.tables(tokens_BT.size(1)))
        x = self.drop(functional.embedding(tokens_BT, self.parameters["model.embed_tokens.weight"]), 0, first_token)
        for layer in range(self.size["layers"]):
            at = f"model.layers.{layer}."
            attended = self.attention(self.norm(x, at + "input_layernorm.weight"), at + "self_attn.", cos, sin)
            x = x + self.drop(attended, 1 + 2 * layer, first_token)
            fed = self.feed_forward(self.norm(x, at + "post_attention_layernorm.weight"), at + "mlp.")
            x = x + self.drop(fed, 2 + 2 * layer, first_token)
        return functional.linear(self.norm(x, "model.norm.weight"), self.head)
