"""Weights in shards over several processes (FSDP2), whole again when somebody needs them, and checkpoints of them.

Every layer is a group of its own; embedding, last norm and head form the outermost one. Whatever reads weights runs
inside one of the model's `PASSES`, which gather them for that long. Sharded parameters are DTensors in fp32 (the
optimiser's), passes compute in the model's own precision, gradients are summed over ranks in fp32: the loss is divided
by a total that counts all of them. A checkpoint holds shards and fits any number of processes, one included.

Left out on purpose: weights and moments in the host's memory, sharding in a second dimension.
"""

import copy
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from posttrain import parallel

REST = "rest.pickle"  # in a sharded one: all that is no shard
RECOMPUTES = "recomputes"  # marks the call of a layer whose activations are computed again (model.py)


M = TypeVar("M", bound=Any)


def shard(model: Any, layers: Sequence[nn.Module]) -> None:
    """Cut a model's weights over all ranks; nothing happens in a single process."""
    if parallel.world() == 1:
        return
    hf, dtype = model.hf, model.dtype
    model.ghost, model.computes = _ghost(hf), dtype
    whole = not model.adapted and any(p.requires_grad for p in hf.parameters())
    for module in [*layers, hf]:
        if whole and dtype != torch.float32:
            for p in module.parameters():
                p.data = p.data.float()
        cut(module, dtype if whole and dtype != torch.float32 else None)
    _gathering(model)


def cut(module: nn.Module, computes: torch.dtype | None = None) -> None:
    """One FSDP group. computes: precision of the passes, if not that of the parameters."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if parallel.world() == 1:
        return
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (parallel.world(),))
    policy = MixedPrecisionPolicy(param_dtype=computes, reduce_dtype=torch.float32, cast_forward_inputs=False)
    fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    module.set_gradient_divide_factor(1.0)  # type: ignore[operator]
    module.set_force_sum_reduction_for_comms(True)  # type: ignore[operator]


def _gathering(model: Any) -> None:
    """Let the model's passes gather the outermost group's weights, as its forward does."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    for name in model.PASSES:
        own = f"posttrain_{name}"
        setattr(model.hf, own, getattr(model, name))
        register_fsdp_forward_method(model.hf, own)
        setattr(model, name, getattr(model.hf, own))


def _ghost(hf: nn.Module) -> nn.Module:
    """The module without its weights, ties kept."""
    hollow = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in hf.parameters()}
    ghost = copy.deepcopy(hf, hollow)
    for module in ghost.modules():
        if hasattr(module.__dict__.get("forward"), RECOMPUTES):  # the copied call would go to the layer in shards
            del module.forward
    return ghost


def whole(model: M, *, keep: bool = True, device: torch.device | None = None) -> M:
    """The same model with ordinary, whole weights in its own precision, for sampling and saving; every rank must ask.

    A model that is not in shards is returned as it is. keep False: this rank only helps to gather.
    """
    if getattr(model, "ghost", None) is None:
        return model
    hollow = copy.deepcopy(model.ghost)
    kinds = {n: p.dtype for n, p in hollow.named_parameters()}
    place = device or model.device
    filled = {}
    for name, p in model.hf.named_parameters():
        full = p.detach().full_tensor()
        if keep:
            filled[name] = nn.Parameter(full.to(place, kinds[name]), requires_grad=p.requires_grad)
    if not keep:
        return model
    names = {id(p): n for n, p in hollow.named_parameters()}
    for module in hollow.modules():
        for key, p in list(module.named_parameters(recurse=False)):
            setattr(module, key, filled[names[id(p)]])
    return type(model)(hollow.to(place), runtime=model.runtime, said=model.said)  # type: ignore[no-any-return]


def number(x: Tensor) -> float:
    """A scalar that may be spread over ranks."""
    return float(x.full_tensor() if hasattr(x, "full_tensor") else x)


def like(x: Tensor, mine: Any) -> Tensor:
    """x cut like `mine`, if that is in shards and x is not."""
    if not hasattr(mine, "full_tensor") or hasattr(x, "full_tensor"):
        return x
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x.to(mine.device), mine.device_mesh, mine.placements)


def fit(optimiser: torch.optim.Optimizer) -> None:
    """Cut an optimiser's loaded state like the parameters it belongs to."""
    for p, state in optimiser.state.items():
        for name, x in state.items():
            if torch.is_tensor(x) and x.shape == p.shape:
                state[name] = like(x, p)


# ---- checkpoints -----------------------------------------------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Leaves sharded tensors out and lists them."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.left_out: dict[str, Tensor] = {}

    def persistent_id(self, obj: Any) -> Any:
        if not hasattr(obj, "full_tensor"):
            return None
        name = f"tensor{len(self.left_out)}"
        self.left_out[name] = obj.detach()
        return name, tuple(obj.shape), obj.dtype


class _Unpickler(pickle.Unpickler):
    """Puts empty tensors where shards were left out: in shards again, or whole ones for a single process."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.wanted: dict[str, Tensor] = {}

    def persistent_load(self, pid: Any) -> Tensor:
        name, shape, dtype = pid
        if name not in self.wanted:
            self.wanted[name] = _empty(shape, dtype)
        return self.wanted[name]


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if parallel.world() == 1:
        return torch.empty(shape, dtype=dtype)
    from torch.distributed import tensor
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (parallel.world(),))
    return tensor.zeros(shape, dtype=dtype, device_mesh=mesh, placements=[tensor.Shard(0)])


def keep(state: Any, out: Path, name: str, step: int) -> None:
    """Write a checkpoint in place of the last one of this name: <name>.pt of one process, a folder of several.

    state: sharded tensors may stand anywhere in it; all that is no shard is rank 0's.
    """
    out = parallel.agreed(out)
    target = out / (f"{name}.pt" if parallel.world() == 1 else f"{name}-{step:08d}")
    save_atomically(state, target) if parallel.world() == 1 else _write(state, target)
    parallel.led(lambda: forget(out, name, but=target))


def kept(out: Path, name: str) -> Any:
    """The newest checkpoint of this name as it was given to `keep`, by whatever number of processes; None: there is
    none. Tensors that were in shards are so again, in one process they are whole."""
    path = parallel.agreed(max(_all(out, name), key=lambda p: p.stat().st_mtime, default=None))
    if path is None:
        return None
    if path.is_dir():
        return _read(path)
    return torch.load(path, weights_only=False, map_location="cpu")  # our own file, in our own run directory


def forget(out: Path, name: str, but: Path | None = None) -> None:
    """Remove the checkpoints of this name, and what a killed process left of one."""
    for path in [*_all(out, name), *out.glob(f"{name}-*.part")]:
        if path != but:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _all(out: Path, name: str) -> list[Path]:
    return [p for p in (out / f"{name}.pt", *out.glob(f"{name}-????????")) if p.exists()]


def save_atomically(value: Any, path: Path) -> None:
    """torch.save to a temporary file, sync, rename: a kill leaves the old file or the new one, never half of one."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as f:
        torch.save(value, f)
        f.flush()
        os.fsync(f.fileno())
    part.rename(path)


def _write(state: Any, folder: Path) -> None:
    """Every rank writes its shards into a folder of another name, which is renamed when all are done."""
    from torch.distributed import checkpoint

    dcp: Any = checkpoint  # its functions are not exported by name
    part = folder.with_name(folder.name + ".part")
    parallel.led(lambda: _fresh(part))
    with (part / REST if parallel.rank() == 0 else Path(os.devnull)).open("wb") as f:
        pickler = _Pickler(f)
        pickler.dump(state)
        f.flush()
        os.fsync(f.fileno()) if parallel.rank() == 0 else None
    dcp.save(pickler.left_out, checkpoint_id=part, process_group=parallel.group())
    parallel.led(lambda: part.rename(folder))


def _fresh(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)


def _read(folder: Path) -> Any:
    from torch.distributed import checkpoint

    dcp: Any = checkpoint  # its functions are not exported by name
    with (folder / REST).open("rb") as f:
        unpickler = _Unpickler(f)
        state = unpickler.load()  # our own file, in our own run directory
    single = parallel.world() == 1
    dcp.load(unpickler.wanted, checkpoint_id=folder, no_dist=single, process_group=None if single else parallel.group())
    return state
