"""Keys and values of the answers in progress, and the two passes over a model that make and use them.

A batch has slots. A prompt is read once, whoever asks for it (`read`), and so is what prompts of a pass begin with
alike; what it leaves behind is copied into the slots of its samples (`place`). A step (`step`) feeds one token per
slot. Shapes come from short lists: the prompt tokens of a pass are packed and rounded up, the slots in use and the
cache length that a step looks at too.

Shapes: B slots, T tokens of a pass, N prompts in it, P longest of them, H query heads, K key/value heads, D head
size, S positions, V vocabulary.
Left out on purpose: paging, keys and values in fewer bits, a second device.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posttrain import kernels
from posttrain.errors import UserError
from posttrain.sampler import forward
from posttrain.sampler.graphs import OnGpu, Steps
from posttrain.sampler.native import Native

ROUND = 32  # tokens: prompts and the looked-at cache are rounded up to multiples of it
SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # slots that a step looks at: few different shapes
SHARED = 16  # tokens that prompts must begin with alike to be read together: below that a template's first words do
AREA = 4096  # prompts in a pass x longest of them, at most (a single longer prompt is a pass of its own)
GPU_AREA = 16 * AREA


def round_up(n: int, step: int = ROUND) -> int:
    return -(-n // step) * step


def visible(query_T: Tensor, key_J: Tensor, window: int | None) -> Tensor:
    """Query at position i sees key at position j: j <= i, and i - j < window. Bool, broadcast of the two."""
    distance = query_T[..., :, None] - key_J
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def soft_capped(q: Tensor, k: Tensor, v: Tensor, sees: Tensor, scale: float, cap: float) -> Tensor:
    """Attention with scores cap x tanh(score / cap) (Gemma 2). q [B, K, G, D], a group of query heads per key head."""
    score = cap * torch.tanh((q @ k.transpose(-1, -2)).float() * (scale / cap))
    return torch.softmax(score.masked_fill(~sees, -torch.inf), -1).to(v.dtype) @ v


class Reading:
    """A pass over packed prompts: causal attention inside each; keeps every layer's keys and values [N, K, P, D].

    What prompts begin with alike stands once, as a shared prompt does in training. Linear layers see the T tokens
    without padding; only attention is padded to [N, P].
    """

    def __init__(self, prompts: Sequence[Sequence[int]], device: torch.device):
        self.n, self.longest = len(prompts), round_up(max(map(len, prompts)))
        ids: list[int] = []
        position: list[int] = []
        place: list[int] = []  # where token t stands in [N, P]
        last, segments = [0] * self.n, []
        token_NP = torch.zeros(self.n, self.longest, dtype=torch.long)  # which token stands where, 0 behind the ends
        for shared, members in families(prompts):
            start = len(ids)
            if shared:  # what they begin with stands once; it takes the places of the first of them
                ids += prompts[members[0]][:shared]
                position += range(shared)
                place += range(members[0] * self.longest, members[0] * self.longest + shared)
                segments.append((start, len(ids), 0, 0))
            for n in members:
                begin, length = len(ids), len(prompts[n])
                ids += prompts[n][shared:]
                position += range(shared, length)
                place += range(n * self.longest + shared, n * self.longest + length)
                segments.append((begin, len(ids), *((start, start + shared) if shared else (0, 0))))
                last[n] = len(ids) - 1
                token_NP[n, :shared] = torch.arange(start, start + shared)
                token_NP[n, shared:length] = torch.arange(begin, len(ids))
        self.tokens = round_up(len(ids))
        slack = [0] * (self.tokens - len(ids))
        self.ids_1T, self.position_1T = (torch.tensor([x + slack], device=device) for x in (ids, position))
        self.place_T, self.token_NP = torch.tensor(place + slack, device=device), token_NP.to(device)
        self.last_N = torch.tensor(last, device=device)
        self.segments_S4 = torch.tensor(segments)  # of packing.Layout
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        packed = [x[0].transpose(0, 1) for x in (q, k, v)]
        k, v = (x[self.token_NP].transpose(1, 2) for x in packed[1:])
        self.keys[layer], self.values[layer] = k, v
        if q.device.type == "cpu" and kernels.fits(packed[0]):
            done = kernels.forward(*packed, self.segments_S4, scale, window or 0, cap or 0.0)
            assert done is not None  # they are families
            return done[0].transpose(0, 1)[None]
        q = packed[0][self.token_NP].transpose(1, 2)
        if cap is None and (window is None or window >= self.longest):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        else:
            at_P = torch.arange(self.longest, device=q.device)
            sees_PP = visible(at_P, at_P, window)
            if cap is None:
                out = F.scaled_dot_product_attention(q, k, v, attn_mask=sees_PP, scale=scale, enable_gqa=True)
            else:
                k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
                out = soft_capped(q, k, v, sees_PP, scale, cap)
        return out.transpose(1, 2).flatten(0, 1)[self.place_T].transpose(0, 1)[None]


class Stepping:
    """One token per slot: its key and value are written at its position, its query sees the slot's first `length`."""

    def __init__(self, keys: dict[int, Tensor], values: dict[int, Tensor], position_B: Tensor, length: int):
        self.keys, self.values, self.position_B, self.length = keys, values, position_B, length
        self.row_B = torch.arange(len(position_B), device=position_B.device)
        self.masks: dict[int | None, Tensor] = {}

    def sees(self, window: int | None) -> Tensor:
        """Bool [B, 1, 1, length]."""
        at_J = torch.arange(self.length, device=self.position_B.device)
        return visible(self.position_B[:, None, None], at_J, window)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """0 or -inf, [B, 1, 1, length]: made once a step and window, all layers share it."""
        window = None if window is None or window >= self.length else window
        if window not in self.masks:
            sees = self.sees(window)
            self.masks[window] = torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(
                ~sees, -torch.inf
            )
        return self.masks[window]

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        keys_BKSD, values_BKSD = self.keys[layer], self.values[layer]
        keys_BKSD[self.row_B, :, self.position_B] = k[:, :, 0]
        values_BKSD[self.row_B, :, self.position_B] = v[:, :, 0]
        b, kv, j = len(q), k.shape[1], self.length
        k, v = keys_BKSD[:b, :, :j], values_BKSD[:b, :, :j]
        # the query heads that share a key head stand as several queries: each key is read once
        q_BKGD = q.reshape(b, kv, -1, q.shape[-1])
        if cap is None:
            out = F.scaled_dot_product_attention(q_BKGD, k, v, attn_mask=self.mask(window, q.dtype), scale=scale)
        else:
            out = soft_capped(q_BKGD, k, v, self.sees(window), scale, cap)
        return out.reshape(b, q.shape[1], 1, -1)


@dataclass
class Stem:
    """A prompt that has been read: logits of its next token, fp32 or the model's type [V], and where its keys are."""

    logits_V: Tensor
    held: Any
    row: int = 0


class Engine(Protocol):
    """What the scheduler in local.py needs of a model. steps: recorded ones, which draw too; see graphs.py."""

    steps: Steps | None

    def read(self, prompts: Sequence[Sequence[int]]) -> list[Stem]: ...

    def place(self, stems: Sequence[Stem], slots: Sequence[int]) -> None: ...

    def move(self, source: int, target: int) -> None: ...

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor: ...


class Batched:
    """Many answers at once over preallocated keys and values: one forward pass per token for all slots.

    layers: of hf, to be compiled for steps that a GPU records.
    """

    def __init__(self, hf: Any, slots: int, positions: int, layers: Sequence[nn.Module] = ()):
        forward.register()
        self.device = next(hf.parameters()).device
        gpu = self.device.type == "cuda"
        self.hf, self.slots, self.positions = hf, slots, round_up(positions, 256 if gpu else ROUND)
        self.loan = forward.Loan(hf, forward.NAME)
        self.native = Native.of(hf)
        self.record = OnGpu() if gpu else None
        self.steps: Steps | None = None
        self.renew()
        self.quick = forward.Loan(hf, forward.APART, layers) if gpu and layers else self.loan
        self.made_for = state_of(hf) if gpu else ()
        self.area = GPU_AREA if gpu else AREA
        self.keeps = "logits_to_keep" in inspect.signature(hf.forward).parameters
        self.keys: dict[int, Tensor] = {}  # layer -> [slots, K, S, D], made when the first prompt shows the shapes
        self.values: dict[int, Tensor] = {}

    def renew(self) -> None:
        """Forget what was recorded: keys and values lie elsewhere now, or there are none yet."""
        if self.record:
            self.steps = Steps(self._stepped, self.slots, self.positions, self.device, self.record)

    def serves(self, slots: int, positions: int) -> bool:
        """Whether the recorded steps of an earlier request do for this one: large enough, the same parameters."""
        return (
            bool(self.steps)
            and slots <= self.slots
            and positions <= self.positions
            and self.made_for == state_of(self.hf)
        )

    @property
    def held(self) -> int:
        """Bytes of keys and values."""
        return sum(x.nbytes for own in (self.keys, self.values) for x in own.values())

    def read(self, prompts: Sequence[Sequence[int]]) -> list[Stem]:
        """Prompts in order; put prompts of like length together, a pass takes neighbours."""
        stems: list[Stem] = []
        for group in passes(prompts, self.area):
            work = Reading(group, self.device)
            logits_NV = self._logits(work.ids_1T, work.position_1T, work, work.last_N)[0]
            stems += [Stem(logits_NV[n], work, n) for n in range(work.n)]
        return stems

    def place(self, stems: Sequence[Stem], slots: Sequence[int]) -> None:
        """Copy what prompts left behind into slots."""
        for work in {id(s.held): s.held for s in stems}.values():
            pairs = [(s.row, slot) for s, slot in zip(stems, slots) if s.held is work]
            row_M, slot_M = torch.tensor(pairs, device=self.device).unbind(1)
            for own, read in ((self.keys, work.keys), (self.values, work.values)):
                for layer, x_NKPD in read.items():
                    if layer not in own:
                        shape = (self.slots, x_NKPD.shape[1], self.positions, x_NKPD.shape[3])
                        own[layer] = x_NKPD.new_zeros(shape)  # zeros: 0 x what a masked place holds must be 0
                    own[layer][slot_M, :, : work.longest] = x_NKPD[row_M]

    def move(self, source: int, target: int) -> None:
        for own in (*self.keys.values(), *self.values.values()):
            own[target].copy_(own[source])

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Next-token logits [B, V] of slots 0..B-1, each of which gets its token at its position.

        A few slots more may be computed for the sake of few shapes; they are free, and writing to them harms nobody.
        """
        if self.native:
            return self.native.step(tokens, positions, self.keys, self.values)
        if self.steps:
            return self.steps.logits(tokens, positions)
        size = min(next((s for s in SIZES if s >= len(tokens)), self.slots), self.slots)
        spare = [0] * (size - len(tokens))
        token_B1, position_B1 = (torch.tensor([*x, *spare], device=self.device)[:, None] for x in (tokens, positions))
        return self._stepped(token_B1, position_B1[:, 0], round_up(max(positions) + 1))[: len(tokens)]

    def _stepped(self, token_B1: Tensor, position_B: Tensor, length: int) -> Tensor:
        work = Stepping(self.keys, self.values, position_B, length)
        with self.quick():
            logits_B1V: Tensor = self.hf(
                input_ids=token_B1, position_ids=position_B[:, None], use_cache=False, work=work
            ).logits
        return logits_B1V[:, -1]

    def _logits(self, ids: Tensor, position: Tensor, work: Reading, keep: Tensor) -> Tensor:
        more = {"logits_to_keep": keep} if self.keeps else {}
        with self.loan():
            logits: Tensor = self.hf(input_ids=ids, position_ids=position, use_cache=False, work=work, **more).logits
        return logits if self.keeps else logits[:, keep]


def families(prompts: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Prompts that begin with the same tokens, at least SHARED of them: (how many, the prompts' numbers), the first
    number first; (0, [n]) for one that is like no other. The last token of a prompt is its own, since it is what the
    next one is drawn from."""
    found: list[tuple[int, list[int]]] = []
    for n in sorted(range(len(prompts)), key=lambda n: list(prompts[n])):
        if found:
            shared, members = found[-1]
            most = min(shared, len(prompts[n]) - 1) if len(members) > 1 else min(shared, len(prompts[n])) - 1
            alike = common(prompts[members[0]], prompts[n], most)
            if alike >= SHARED and alike * len(members) >= shared * (len(members) - 1):  # reads no more tokens so
                found[-1] = alike, [*members, n]
                continue
        found.append((len(prompts[n]), [n]))
    return sorted(((k if len(m) > 1 else 0, sorted(m)) for k, m in found), key=lambda family: family[1])


def common(a: Sequence[int], b: Sequence[int], most: int) -> int:
    """How many tokens two prompts begin with alike, at most `most`."""
    return next((i for i in range(most) if a[i] != b[i]), max(0, most))


def passes(prompts: Sequence[Sequence[int]], area: int = AREA) -> list[Sequence[Sequence[int]]]:
    """Consecutive prompts in groups whose padded area stays under `area`."""
    groups: list[Sequence[Sequence[int]]] = []
    start, longest = 0, 0
    for n, prompt in enumerate(prompts):
        longest = max(longest, len(prompt))
        if n > start and (n + 1 - start) * longest > area:
            groups.append(prompts[start:n])
            start, longest = n, len(prompt)
    return [*groups, prompts[start:]] if prompts else []


class Plain:
    """Each answer alone with transformers' own cache: slow, and exact for every architecture it knows."""

    steps: Steps | None = None

    def __init__(self, hf: Any):
        self.hf, self.device, self.loan = hf, next(hf.parameters()).device, forward.Loan(hf, None)
        self.caches: dict[int, Any] = {}

    def read(self, prompts: Sequence[Sequence[int]]) -> list[Stem]:
        stems = []
        for prompt in prompts:
            out = self._forward(list(prompt), None)
            stems.append(Stem(out.logits[0, -1], out.past_key_values))
        return stems

    def place(self, stems: Sequence[Stem], slots: Sequence[int]) -> None:
        for stem, slot in zip(stems, slots):
            self.caches[slot] = copy.deepcopy(stem.held)

    def move(self, source: int, target: int) -> None:
        self.caches[target] = self.caches.pop(source)

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        return torch.stack([self._forward([t], self.caches[slot]).logits[0, -1] for slot, t in enumerate(tokens)])

    def _forward(self, ids: list[int], cache: Any) -> Any:
        with self.loan():
            out = self.hf(input_ids=torch.tensor([ids], device=self.device), past_key_values=cache, use_cache=True)
        if getattr(out, "past_key_values", None) is None:
            kind = self.hf.config.model_type
            raise UserError(f"the local sampler does not know how a model of type {kind!r} remembers what it has read")
        return out


def state_of(hf: Any) -> tuple[Any, ...]:
    """What a recorded step takes for granted: where parameters lie, and which adapters are on."""
    tuned = (m for m in hf.modules() if isinstance(getattr(m, "disable_adapters", None), bool))
    return (*(p.data_ptr() for p in hf.parameters()), *((m.disable_adapters, *m.active_adapters) for m in tuned))


def fits(hf: Any) -> bool:
    """Whether `Batched` is exact for this architecture: attention through transformers' interface and nothing else
    that remembers (state spaces, chunked attention, attention sinks, keys shared between layers)."""
    config = hf.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    remembers = getattr(hf, "_is_stateful", False) or getattr(config, "num_kv_shared_layers", 0)
    sinks = any(hasattr(m, "sinks") for m in hf.modules())
    known = kinds <= {"full_attention", "sliding_attention"}
    return bool(getattr(hf, "_supports_attention_backend", False)) and known and not remembers and not sinks


def context(hf: Any) -> int | None:
    """Positions a model can hold. Rotary scalings that change with the length are exact only before they set in."""
    config = hf.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None)]
    rope = getattr(config, "rope_parameters", None) or {}
    for scaling in (rope, *(x for x in rope.values() if isinstance(x, dict))):  # some models have one per layer type
        if scaling.get("rope_type") in ("dynamic", "longrope"):
            limits.append(scaling.get("original_max_position_embeddings"))
    return min((n for n in limits if n), default=None)
