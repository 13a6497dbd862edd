"""The GPU kernels are compiled for an NVIDIA GPU here, where there need not be one."""

import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton.backends.nvidia", reason="triton comes for Linux only")

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from convexsnn.gradient import kernels_triton  # noqa: E402

HOPPER = GPUTarget("cuda", 90, 32)
NUMBERS = {"steps": "i32", "neurons": "i32"}


def compiled(kernel, pointers, numbers, constants, kind):
    signature = {name: f"*{kind}" for name in pointers} | numbers | dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature, constexprs=constants)
    return triton.compile(source, target=HOPPER, options={"enable_fp_fusion": False}).asm


@pytest.mark.parametrize("kind", ["fp32", "fp64"])
@pytest.mark.parametrize("reset", range(4))
@pytest.mark.parametrize("alone", [False, True])  # Triton makes a constant of a number that is 1
def test_kernels_compile_for_a_gpu(reset, kind, alone):
    numbers, one = (NUMBERS, {}) if not alone else ({"neurons": "i32"}, {"steps": 1})
    pointers = ("current", "leak", "threshold", "membranes", "spikes")
    forward = compiled(
        kernels_triton._forward, pointers, numbers, {"reset": reset, "block": 128, "ahead": 4, **one}, kind
    )
    assert forward["cubin"] and not re.search(r"\bfma\.", forward["ptx"])  # rounded as the simulator rounds
    pointers = ("grad", "membranes", "leak", "threshold", "out", "by_leak", "by_threshold")
    for shape in {reset, 4}:
        constants = {
            "height": 1.3, "inverse": 0.7, "reset": reset, "through": True, "shape": shape,
            "parameters": shape == 4, "block": 128, "ahead": 4, **one,
        }  # fmt: skip
        more = {**numbers, "last": "i64"}
        assert compiled(kernels_triton._backward, pointers, more, constants, kind)["cubin"]
