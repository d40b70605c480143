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


class Llama:
    """`parameters`: leaves by name. A tied head is a leaf of its own, which shares the embedding's storage: its gradient has an
    accumulator of its own, and is added last."""

    def __init__(self, size, parameters):
        self.size = size
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

    def logits(self, tokens_BT):
        cos, sin = (table.to(self.head.dtype) for table in self.tables(tokens_BT.size(1)))
        x = functional.embedding(tokens_BT, self.parameters["model.embed_tokens.weight"])
        for layer in range(self.size["layers"]):
            at = f"model.layers.{layer}."
            x = x + self.attention(self.norm(x, at + "input_layernorm.weight"), at + "self_attn.", cos, sin)
            x = x + self.feed_forward(self.norm(x, at + "post_attention_layernorm.weight"), at + "mlp.")
        return functional.linear(self.norm(x, "model.norm.weight"), self.head)
