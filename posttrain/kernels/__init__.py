"""C code for the CPU: compiled once by the machine's own compiler, kept in the cache, called through ctypes.

attention.c: PyTorch's CPU attention is slow on packs of short documents and its backward slower still; the same sums in
fp32, family by family (`fits`, `forward`, `backward`). decode.c: one decoding step of a Llama-like model, which
PyTorch spends mostly between its operators (used by sampler/native.py).
Where there is no C compiler, or POSTTRAIN_KERNELS is off, `library` is None and PyTorch's operators do everything.
Left out on purpose: other devices (CUDA has attention of variable length), float64, a build step at installation.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from posttrain import bundled

SOURCES = {name: Path(__file__).with_name(f"{name}.c") for name in ("attention", "decode")}
SHARED = Path(__file__).with_name("vec.h")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=gnu11")
DTYPES = (torch.float32, torch.bfloat16)
LANES = 16  # head sizes are multiples of this


class _Tensor(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("ts", ctypes.c_int64), ("hs", ctypes.c_int64), ("bf16", ctypes.c_int))

    @classmethod
    def of(cls, x_THD: Tensor) -> "_Tensor":
        return cls(x_THD.data_ptr(), x_THD.stride(0), x_THD.stride(1), x_THD.dtype == torch.bfloat16)


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("segments", "heads", "kv", "size", "window")),
        ("scale", ctypes.c_float),
        ("cap", ctypes.c_float),
    )  # fmt: skip


def fits(q_THD: Tensor) -> bool:
    """Whether the C code can do this attention here."""
    return q_THD.dtype in DTYPES and q_THD.shape[-1] % LANES == 0 and library("attention") is not None


def forward(
    q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, segments_S4: Tensor, scale: float, window: int, softcap: float
) -> tuple[Tensor, Tensor] | None:
    """attention.packed: (output [T, H, D], log-denominators [T, H]); None for segments that are not families."""
    q, k, v = (_channels_together(x) for x in (q_THD, k_TKD, v_TKD))
    out = torch.zeros(q.shape, dtype=q.dtype)
    lse_TH = torch.zeros(q.shape[:2])
    shape = _Shape(len(segments_S4), q.shape[1], k.shape[1], q.shape[2], window, scale, softcap)
    done = _call("forward", shape, *map(_Tensor.of, (q, k, v, out)), _pointer(lse_TH), _pointer(segments_S4))
    return (out, lse_TH) if done else None


def backward(
    g_THD: Tensor, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, out_THD: Tensor, lse_TH: Tensor,
    segments_S4: Tensor, scale: float, window: int, softcap: float,
) -> tuple[Tensor, Tensor, Tensor] | None:  # fmt: skip
    """attention.packed_backward: gradients of q, k and v; None as above."""
    read = [_channels_together(x) for x in (g_THD, q_THD, k_TKD, v_TKD, out_THD)]
    made = [torch.zeros(x.shape, dtype=x.dtype) for x in (q_THD, k_TKD, v_TKD)]
    shape = _Shape(len(segments_S4), q_THD.shape[1], k_TKD.shape[1], q_THD.shape[2], window, scale, softcap)
    tensors = [_Tensor.of(x) for x in (*read, *made)]
    done = _call("backward", shape, *tensors[:5], _pointer(lse_TH), *tensors[5:], _pointer(segments_S4))
    return (made[0], made[1], made[2]) if done else None


def _channels_together(x_THD: Tensor) -> Tensor:
    return x_THD if x_THD.stride(2) == 1 else x_THD.contiguous()


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _call(name: str, *args: object) -> bool:
    """False: a segment's prefix is not the first segment of its family."""
    status = getattr(library("attention"), name)(*args)
    if status > 1:
        raise MemoryError("attention could not get its working memory")
    return bool(status == 0)


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled code of NAME.c; None where it is switched off or cannot be compiled or loaded."""
    if os.environ.get("POSTTRAIN_KERNELS", "on") == "off" or not sys.platform.startswith("linux"):
        return None
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return None
    try:
        return ctypes.CDLL(str(_compiled(SOURCES[name], compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(source: Path, compiler: str) -> Path:
    """The shared library in the cache, made if need be. Its name says what it was made of, and for which processor."""
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    made_of = (source.read_text(), SHARED.read_text(), *FLAGS, compiler, flags)
    digest = sha256("\n".join(made_of).encode()).hexdigest()[:16]
    path = bundled.cache() / "kernels" / f"{source.stem}-{digest}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / "made.so"
            command = [compiler, *FLAGS, "-o", str(made), str(source), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            made.replace(path)
    return path
