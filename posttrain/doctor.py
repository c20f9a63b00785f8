"""What this machine has, what will be used, what is missing and how to get it.

Left out on purpose: repairing anything.
"""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from posttrain import bundled
from posttrain.pipeline import versions

EXTRAS = {  # module -> (what it is for, how to get it)
    "peft": ("low-rank adapters (lora:)", "pip install 'posttrain[lora]'"),
    "bitsandbytes": ("weights in 8 or 4 bits (lora.quantize, runtime.moments)", "pip install 'posttrain[quantize]'"),
    "pyarrow": ("Parquet files", "pip install 'posttrain[parquet]'"),
    "datasets": ("data sets by Hugging Face id", "pip install 'posttrain[hub]'"),
    "uvicorn": ("posttrain serve", "pip install 'posttrain[serve]'"),
    "s3fs": ("runs in S3, --runs s3://", "pip install 'posttrain[s3]'"),
    "httpx": ("judges and samplers behind a server", "pip install 'posttrain[endpoint]'"),
}


def lines() -> Iterator[str]:
    """The report, line by line."""
    yield f"python       {platform.python_version()} at {sys.executable}"
    yield from _machine()
    yield from _torch()
    packages = (f"{k} {v}" for k, v in versions().items() if k not in ("python", "machine", "torch"))
    yield f"libraries    {', '.join(packages)}"
    for module, (purpose, remedy) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield f"{module:<12} {'ready' if there else 'missing: ' + remedy} ({purpose})"
    packed = bundled.PACKED.stat().st_size / 1e6 if bundled.PACKED.exists() else 0
    yield f"base model   {f'bundled, {packed:.0f} MB packed' if packed else 'missing from this installation'}"
    yield f"cache        {bundled.cache()} ({_free(bundled.cache())} free)"
    yield f"here         {Path.cwd()} ({_free(Path.cwd())} free; a run of the assistant recipe needs about 2 GB)"


def _machine() -> Iterator[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"machine      {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB memory"


def _torch() -> Iterator[str]:
    if importlib.util.find_spec("torch") is None:
        yield "torch        missing: pip install torch"
        return
    import torch

    from posttrain import kernels
    from posttrain.loading import choose
    from posttrain.pipeline import Runtime

    device, _, said = choose(Runtime())
    yield f"torch        {torch.__version__}, {torch.get_num_threads()} threads"
    yield f"device       {device}: {said}"
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        yield f"gpu          {torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
        triton = importlib.util.find_spec("triton") is not None
        yield f"triton       {'ready' if triton else 'missing: training runs uncompiled, at half the speed or less'}"
    else:
        yield "gpu          none found; the CPU will be used"
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    yield f"compiler     {compiler or 'none: layers run uncompiled, slower; install g++'}"
    without = "PyTorch's operators, slower: no C compiler, or POSTTRAIN_KERNELS is off"
    yield f"attention    on the CPU: {'C code' if kernels.library('attention') else without}"


def _free(path: Path) -> str:
    while not path.exists():
        path = path.parent
    return f"{shutil.disk_usage(path).free / 1e9:.0f} GB"
