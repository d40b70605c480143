"""What this GPU gives at the most: bytes a second of a copy, and BF16 and FP8 products of the shapes of Llama3-8B. Random data: on zeros
products run faster than on any real data. FP8 is timed with its scales, without the casts (bar: 1.5 x BF16). docs/performance.md reads it.

    python3 tests/bench/gpu_ceilings_bench.py [--tokens 8192]
"""

import argparse
import statistics
import sys

import torch

FP8 = torch.float8_e4m3fn
BAR = 1.5


def seconds(work, repeats=20):
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return statistics.median(times)


def scaled(x, dim):
    """(x in E4M3, its scale): one a tensor where dim is None, else one a row, [rows, 1] or [1, columns]."""
    amax = x.abs().amax() if dim is None else x.abs().amax(dim, keepdim=True)
    scale = amax.float().clamp(min=1e-12) / 448
    return (x / scale).clamp(-448, 448).to(FP8), scale


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: there is no GPU here")
        return 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    source = torch.empty(1 << 32, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    print(f"copy on the device: {2 * source.numel() / seconds(lambda: target.copy_(source)) / 1e12:.2f} TB/s, read and written")
    del source, target
    ratios = []
    print("product M x K x N     BF16 TFLOP/s   FP8 tensorwise       FP8 rowwise    error of FP8 (tensorwise, rowwise)")
    for name, (k, n) in {"square": (8192, 8192), "q, o": (4096, 4096), "k, v": (4096, 1024), "gate, up": (4096, 14336),
                         "down": (14336, 4096), "head": (4096, 128256)}.items():
        m = options.tokens
        x, w = (torch.randn(rows, k, device="cuda", dtype=torch.bfloat16) for rows in (m, n))
        flops = 2 * m * k * n
        plain = seconds(lambda: torch.mm(x, w.t()))
        wanted = torch.mm(x[:512].float(), w.t().float())
        row, errors = [], []
        for dim in (None, 1):
            (x8, x_scale), (w8, w_scale) = scaled(x, dim), scaled(w, dim)
            scale_b = w_scale if dim is None else w_scale.t()

            def product(rows=x8, scale=x_scale):
                return torch._scaled_mm(rows, w8.t(), scale, scale_b, out_dtype=torch.bfloat16, use_fast_accum=True)

            row.append(seconds(product))
            found = product(x8[:512], x_scale if dim is None else x_scale[:512]).float()
            errors.append((1 - 2 * (found * wanted).sum() / (found.square().sum() + wanted.square().sum())).item())
        print(f"{name:9} {m}x{k}x{n:<7} {flops / plain / 1e12:7.0f}" +
              "".join(f"   {flops / time / 1e12:7.0f} ({plain / time:.2f} x)" for time in row) +
              f"    {errors[0]:.1e}, {errors[1]:.1e}")
        ratios.append(plain / row[0])
        del x, w, wanted
    print(f"FP8 tensorwise against BF16: median {statistics.median(ratios):.2f} x (bar: {BAR} x)")
    return 0 if statistics.median(ratios) >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
