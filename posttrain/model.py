"""A causal language model as training sees it: packs in, log-probabilities out, Hugging Face folders in and out.

`Model` wraps a transformers module and changes nothing in it but the attention implementation. Hidden states are
computed over the whole pack, the vocabulary only where a target stands (head.py). Dropout is off everywhere:
preference and policy objectives compare log-probs, which dropout would blur.

Shapes: T tokens of a pack, N targets, D hidden size.
Left out on purpose: tokenizers and chat templates (render.py), optimisers (train.py), heads with values or rewards.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from posttrain import attention, narrow, parallel, quantized, shards
from posttrain.head import Head, log_collisions, nll, token_logps
from posttrain.packing import Branch, Doc, Pack, build, sent
from posttrain.pipeline import Runtime

COMPILE_FROM = 60  # micro-batches that earn the warm-up of torch.compile back on a GPU, where it saves launches
COMPILE_FLOPS = 6e13  # and on a CPU: 20 s of warm-up for a tenth of the time, at 300 GFLOP/s (LOG.md, fifth day)
REHEARSED = (181, 181, 182)  # 544 tokens, no size of a model's: torch.compile takes equal sizes for the same one
VARIANTS = 32  # compiled forms of a layer's code, which all layers share: with gradient or without, narrow, very long
LOSS_ROWS = 256  # the number of targets is padded to a multiple of this: the head sees few different shapes


class Model:
    """hf: the transformers module (PEFT's when there is an adapter). said: what was chosen at loading, for people.

    PASSES: everything that reads weights; shards.py makes them gather shards. ghost: see there.
    """

    PASSES: tuple[str, ...] = ("token_logps", "logps_and_hidden", "logps_and_collisions", "nll")
    ghost: nn.Module | None = None
    computes: torch.dtype | None = None  # in shards: precision of the passes; the parameters are the optimiser's

    def __init__(self, hf: nn.Module, *, runtime: Runtime | None = None, said: str = ""):
        attention.register()
        self.hf, self.runtime, self.said = hf.eval(), runtime or Runtime(), said
        self.base = hf.get_base_model() if self.adapted else hf
        self.base.set_attn_implementation(attention.NAME)
        self.decoder: nn.Module = self.base.get_decoder()
        self.last = narrow.Narrow(layers_of(self.decoder)[-1])
        if self.runtime.checkpointing:
            for layer in layers_of(self.decoder):
                recompute(layer)
        self._compiled: list[tuple[nn.Module, Any]] = []  # layers with their compiled calls

    @property
    def adapted(self) -> bool:
        return hasattr(self.hf, "peft_config")

    @property
    def dtype(self) -> torch.dtype:
        return self.computes or self.base.get_input_embeddings().weight.dtype

    @property
    def device(self) -> torch.device:
        return self.base.get_input_embeddings().weight.device

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name, in a fixed order; tied ones once."""
        return {n: p for n, p in self.hf.named_parameters() if p.requires_grad}

    def parameters(self) -> list[nn.Parameter]:
        return list(self.named_parameters().values())

    @property
    def flops_per_token(self) -> float:
        """Forward and backward, 6 per parameter that multiplies activations; frozen ones have no weight gradient: 4."""
        looked_up = {id(m.weight) for m in self.base.modules() if isinstance(m, nn.Embedding)}
        looked_up -= {id(self.base.get_output_embeddings().weight)}
        return float(
            sum((6 if p.requires_grad else 4) * p.numel() for p in self.hf.parameters() if id(p) not in looked_up)
        )

    def head(self) -> Head:
        """The output layer with the scale and soft cap that the architecture puts on its logits."""
        layer, config = self.base.get_output_embeddings(), self.base.config.get_text_config()
        scale = float(getattr(config, "logit_scale", None) or 1.0) / float(
            getattr(config, "logits_scaling", None) or 1.0
        )
        return Head(layer.weight, getattr(layer, "bias", None), scale, getattr(config, "final_logit_softcapping", None))

    def hidden(self, pack: Pack, at_X: Tensor | None = None) -> Tensor:
        """Last hidden states h_TD of a pack. at_X: the rows that are read; others then mean nothing."""
        # A mask of four dimensions is taken by transformers as finished: it builds none of its own.
        with self._use_compiled(), self._narrow_to(at_X, len(pack.ids_T)), self._kept_elsewhere():
            out = self.decoder(
                input_ids=sent(pack.ids_T[None], self.device),
                position_ids=sent(pack.position_T[None], self.device),
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device),
                use_cache=False,
                layout=pack.layout.on(self.device, len(pack.ids_T)),
            )
        return out.last_hidden_state[0]

    def _narrow_to(self, at_X: Tensor | None, tokens: int) -> AbstractContextManager[None]:
        """Not with shards, whose parameters are gathered by layer, nor when a layer is run again in the backward."""
        if at_X is None or self.ghost is not None or self.runtime.checkpointing:
            return nullcontext()
        row_R = narrow.rows(at_X, tokens)
        return nullcontext() if row_R is None else self.last.at(sent(row_R, self.device))

    def _kept_elsewhere(self) -> AbstractContextManager[Any]:
        """checkpointing: offload. What the layers keep, which is their input alone, waits in the machine's memory."""
        if self.runtime.checkpointing != "offload" or not torch.is_grad_enabled():
            return nullcontext()
        return torch.autograd.graph.save_on_cpu(pin_memory=self.device.type == "cuda")

    @property
    def compiled_layers(self) -> list[nn.Module]:
        return [layer for layer, _ in self._compiled]

    @contextmanager
    def _use_compiled(self) -> Iterator[None]:
        """Compiled layers for packs only: generation and everything else sees an ordinary eager module.

        Passes without gradient would be compiled once more, which held-out rows do not earn back on a CPU.
        """
        used = self._compiled if torch.is_grad_enabled() or self.device.type != "cpu" else []
        for layer, call in used:
            layer._compiled_call_impl = call
        try:
            yield
        finally:
            for layer, _ in used:
                layer._compiled_call_impl = None

    def _at_targets(self, pack: Pack) -> tuple[Tensor, Tensor]:
        """Hidden states and ids of the targets, padded with repeats of the first row to a multiple of LOSS_ROWS."""
        padding = -len(pack.at_N) % LOSS_ROWS
        target_N = torch.cat([pack.target_N, pack.target_N.new_zeros(padding)])
        at_N = torch.cat([pack.at_N, pack.at_N[:1].expand(padding) if len(pack.at_N) else pack.at_N.new_zeros(padding)])
        return self.hidden(pack, at_N).index_select(0, sent(at_N, self.device)), sent(target_N, self.device)

    def token_logps(self, pack: Pack, *, temperature: float = 1.0, entropy: bool = False) -> Any:
        """log p of every target in nats, fp32 [N], differentiable; with entropy: (logp_N, entropy_N).

        They come back on the pack's device. Under torch.no_grad() nothing is kept for a backward: the way to score
        held-out rows and references.
        """
        n, home = len(pack.at_N), pack.at_N.device
        h_ND, target_N = self._at_targets(pack)
        out = token_logps(h_ND, self.head(), target_N, temperature=temperature, entropy=entropy)
        return (out[0][:n].to(home), out[1][:n].to(home)) if isinstance(out, tuple) else out[:n].to(home)

    def logps_and_hidden(self, pack: Pack, *, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """(log p [N], entropy [N], hidden states h [N, D] on the model's device) of the targets; differentiable"""
        n, home = len(pack.at_N), pack.at_N.device
        h_ND, target_N = self._at_targets(pack)
        logp_N, entropy_N = token_logps(h_ND, self.head(), target_N, temperature=temperature, entropy=True)
        return logp_N[:n].to(home), entropy_N[:n].to(home), h_ND[:n]

    def logps_and_collisions(self, pack: Pack) -> tuple[Tensor, Tensor]:
        """(token_logps(pack), log sum_v p(v)^2 at the same places without gradient): nats, fp32 [N] each."""
        n, home = len(pack.at_N), pack.at_N.device
        h_ND, target_N = self._at_targets(pack)
        logp_N = token_logps(h_ND, self.head(), target_N)
        assert isinstance(logp_N, Tensor)
        return logp_N[:n].to(home), log_collisions(h_ND[:n].detach(), self.head()).to(home)

    def nll(self, pack: Pack, weight_N: Tensor) -> tuple[Tensor, Tensor]:
        """(sum of weight x -log p, scalar; log p of every target in nats, detached [N]), on the model's device.

        Nothing in it waits for a GPU, so the next micro-batch is prepared while this one is computed.
        """
        h_ND, target_N = self._at_targets(pack)
        weight_N = torch.cat([weight_N.detach(), weight_N.new_zeros(len(target_N) - len(weight_N))])
        loss, logp_N = nll(h_ND, self.head(), target_N, sent(weight_N, self.device))
        return loss, logp_N[: len(pack.at_N)]

    def reference(self) -> AbstractContextManager[Any]:
        """Context in which the model is the one that training started from: its adapter, if any, is off.

        With full weights it is the model as it stands, so ask for reference log-probs before the first step.
        """
        return self.hf.disable_adapter() if self.adapted else nullcontext()

    def compile(self, micro_batches: int = 0, tokens: float = 0) -> bool:
        """Compile the layers if runtime.compile says so; auto: if so many packs, or tokens, earn the warm-up back.

        True when packs now run compiled. A machine that cannot compile (no C++ compiler) stays eager under auto.
        """
        how = self.runtime.compile
        if self._compiled:
            return True
        wanted = self._worth_compiling(micro_batches, tokens) if how == "auto" else how == "on"
        if not wanted or self.ghost is not None:
            return False
        layers = layers_of(self.decoder)
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
        for layer in layers:
            layer.compile(dynamic=True)
        self._compiled = [(layer, layer._compiled_call_impl) for layer in layers]
        for layer in layers:
            layer._compiled_call_impl = None
        try:
            self._rehearse()
        except Exception as error:
            self._compiled = []
            if how == "on":
                raise
            self.runtime.progress.say(f"  not compiled: {str(error).strip().splitlines()[0][:120]}")
        return bool(self._compiled)

    def _worth_compiling(self, micro_batches: int, tokens: float) -> bool:
        """In fp32 the CPU is busy with matrix products that compiling does not touch: 0-5% were measured there."""
        if self.runtime.checkpointing == "offload":
            return False  # a compiled layer keeps its weights too, which would travel with what is kept
        if self.device.type == "cuda":
            return micro_batches >= COMPILE_FROM
        if self.runtime.checkpointing or tokens * self.flops_per_token < COMPILE_FLOPS:
            return False
        compiler = any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++")))
        return compiler and self.dtype == torch.bfloat16 and cpu_has_bf16()

    def _rehearse(self) -> None:
        """One small pack forward and backward, so that compiling fails here or nowhere."""
        scalar = self._one_pass(build([Doc([], [Branch([0] * n, [True] * n)]) for n in REHEARSED]))
        if scalar.requires_grad:
            scalar.backward()
        for p in self.parameters():
            p.grad = None

    def _one_pass(self, pack: Pack) -> Tensor:
        """A scalar that training would differentiate."""
        return self.nll(pack, torch.zeros(len(pack.at_N)))[0]

    def save(self, folder: Path | str, *, merge: bool = True, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write a Hugging Face folder (weights, config, generation config; the tokenizer is the caller's).

        weights: saved instead of the parameters of those names, for an fp32 master copy of bf16 weights.
        merge: fold the adapter into the weights, computed in fp32; False writes the adapter alone.
        """
        if self.ghost is not None:
            plain = shards.whole(self, keep=parallel.rank() == 0, device=torch.device("cpu"))
            parallel.led(lambda: plain.save(folder, merge=merge, weights=weights))
            return
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _swapped(self.hf, weights or {}), quiet():
            if not self.adapted:
                self.base.save_pretrained(folder)
            elif merge:
                with quantized.saved_as_full(self.base):
                    self.base.save_pretrained(folder, state_dict=quantized.merged(self.hf))
            else:
                self.hf.save_pretrained(folder)


def layers_of(decoder: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a decoder: the longest list of modules in it."""
    lists = [m for m in decoder.modules() if isinstance(m, nn.ModuleList)]
    return list(max(lists, key=len)) if lists else [decoder]


def recompute(layer: nn.Module) -> None:
    """Keep only the layer's input for the backward pass and compute the rest a second time (arXiv:1604.06174)."""
    forward = layer.forward

    def once_more(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    setattr(once_more, shards.RECOMPUTES, True)  # so that a copy of the layer can be rid of it
    layer.forward = once_more  # type: ignore[method-assign]


@contextmanager
def _swapped(hf: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Parameters hold other values for a while."""
    params = dict(hf.named_parameters())
    before = {n: params[n].data for n in weights}
    try:
        for n, w in weights.items():
            params[n].data = w
        yield
    finally:
        for n, w in before.items():
            params[n].data = w


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its own progress bars; ours say what happens."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX: where bf16 products are several times faster than fp32, not slower."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, p)() for p in probes if hasattr(torch.cpu, p))
