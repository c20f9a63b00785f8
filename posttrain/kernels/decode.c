/* One decoding step of a Llama-like model on the CPU: a token per slot in, next-token logits out. For sampler/native.py.

   x = embed[token]; in every layer: x += o(attention(rope(q), cache of k, cache of v)), x += down(silu(gate) up), both on
   RMS-normed x; logits = head(norm(x)). The residual stream, scores and sums are fp32; products take their left side in
   the weights' type, as the training pass does. Weights are read where they lie, [out][in] as torch keeps them: both
   sides of a product are contiguous along what is summed over, so nothing is packed or copied.

   The threads go through the layers together, every stage split among them; what a thread adds up does not depend on how
   many there are, so that draws repeat on any machine of the kind.
   Left out on purpose: experts, soft caps, other activations (native.py leaves such models to transformers). */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vec.h"

#define MT 6 /* rows of x and weights in a tile of sums: MT NT accumulators */
#ifdef __AVX512F__
#include <immintrin.h>
#define NT 4
#else
#define NT 2
#endif

typedef uint16_t half __attribute__((vector_size(VL * 2), aligned(2)));
typedef uint32_t uvec __attribute__((vector_size(VL * 4), aligned(4)));

typedef struct {
    const void *norm_in, *q, *k, *v, *o, *norm_mid, *gate, *up, *down; /* weights; norms too are in the weights' type */
    const void *bias_q, *bias_k, *bias_v, *norm_q, *norm_k;            /* NULL where the model has none */
    void *keys, *values;                                               /* [slots][kv][positions][size] */
    int64_t window;                                                    /* 0: all positions are seen */
} layer;

typedef struct {
    int64_t layers, width, inner, heads, kv, size, vocabulary, positions;
    float eps, scale, rope_scale;
    const float *frequencies; /* size / 2 */
    const void *embed, *norm, *head;
    int bf16;
} model;

/* --- numbers ------------------------------------------------------------------------------------------------------ */

static inline vec read(const void *x, int64_t at, int bf16) {
    if (!bf16) return *(const vec *)((const float *)x + at);
    return (vec)(__builtin_convertvector(*(const half *)((const uint16_t *)x + at), uvec) << 16);
}

static inline float read_one(const void *x, int64_t at, int bf16) {
    if (!bf16) return ((const float *)x)[at];
    uint32_t u = (uint32_t)((const uint16_t *)x)[at] << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline void write(void *x, int64_t at, vec y, int bf16) { /* to nearest even */
    if (!bf16) {
        *(vec *)((float *)x + at) = y;
        return;
    }
    uvec u = (uvec)y;
    *(half *)((uint16_t *)x + at) = __builtin_convertvector((u + 0x7fff + (u >> 16 & 1)) >> 16, half);
}

static inline float total(vec x) {
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)x);
#else
    float sum = 0;
    for (int j = 0; j < VL; j++) sum += x[j];
    return sum;
#endif
}

#ifdef __AVX512F__
static inline __m128 four_totals(const vec x[4]) { /* a quarter of the work of four totals */
    __m512 a = (__m512)x[0], b = (__m512)x[1], c = (__m512)x[2], d = (__m512)x[3];
    __m512d ab = (__m512d)_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512d cd = (__m512d)_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512 all = _mm512_add_ps((__m512)_mm512_unpacklo_pd(ab, cd), (__m512)_mm512_unpackhi_pd(ab, cd));
    __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}
#endif

/* --- products ----------------------------------------------------------------------------------------------------- */

/* sums[i][j] = sum_k x[i][k] w[j][k], m rows of x and n of w; bf16 by pairs where the processor has the instruction */
static inline __attribute__((always_inline)) void tile(const int m, const int n, int64_t k, const void *x, int64_t xm,
                                                       const void *w, int64_t wn, int bf16, float sums[MT][NT]) {
    vec sum[MT][NT];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) sum[i][j] = (vec){};
#ifdef __AVX512BF16__
    if (bf16) {
        const uint16_t *a = x, *b = w;
        for (int64_t at = 0; at < k; at += 32) {
            __m512bh row[NT];
#pragma GCC unroll 8
            for (int j = 0; j < n; j++) row[j] = (__m512bh)_mm512_loadu_si512(b + j * wn + at);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++) {
                __m512bh one = (__m512bh)_mm512_loadu_si512(a + i * xm + at);
#pragma GCC unroll 8
                for (int j = 0; j < n; j++) sum[i][j] = (vec)_mm512_dpbf16_ps((__m512)sum[i][j], one, row[j]);
            }
        }
    } else
#endif
        for (int64_t at = 0; at < k; at += VL) {
            vec row[NT];
#pragma GCC unroll 8
            for (int j = 0; j < n; j++) row[j] = read(w, j * wn + at, bf16);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++) {
                vec one = read(x, i * xm + at, bf16);
#pragma GCC unroll 8
                for (int j = 0; j < n; j++) sum[i][j] += one * row[j];
            }
        }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) {
#ifdef __AVX512F__
        if (n == NT) {
            _mm_storeu_ps(sums[i], four_totals(sum[i]));
            continue;
        }
#endif
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) sums[i][j] = total(sum[i][j]);
    }
}

/* y[b][n] (+)= x[b] . w[n] + bias[n] for n in [from, to): a thread's share of a product */
static void product(int64_t rows, int64_t k, const void *x, const void *w, const void *bias, int bf16, int64_t from,
                    int64_t to, float *y, int64_t ym, int add) {
    int64_t bytes = bf16 ? 2 : 4;
    for (int64_t n = from; n < to; n += NT)
        for (int64_t b = 0; b < rows; b += MT) {
            float sums[MT][NT];
            int m = rows - b < MT ? (int)(rows - b) : MT, wide = to - n < NT ? (int)(to - n) : NT;
            const char *a = (const char *)x + b * k * bytes, *c = (const char *)w + n * k * bytes;
            if (m == MT && wide == NT) {
                tile(MT, NT, k, a, k, c, k, bf16, sums);
            } else if (wide == NT && m == 2) {
                tile(2, NT, k, a, k, c, k, bf16, sums);
            } else if (wide == NT) {
                for (int i = 0; i < m; i++) tile(1, NT, k, a + i * k * bytes, k, c, k, bf16, sums + i);
            } else {
                for (int i = 0; i < m; i++)
                    for (int j = 0; j < wide; j++) {
                        float one[MT][NT];
                        tile(1, 1, k, a + i * k * bytes, k, c + j * k * bytes, k, bf16, one);
                        sums[i][j] = one[0][0];
                    }
            }
            for (int i = 0; i < m; i++)
                for (int j = 0; j < wide; j++) {
                    float *to_ = y + (b + i) * ym + n + j, more = bias ? read_one(bias, n + j, bf16) : 0;
                    *to_ = sums[i][j] + more + (add ? *to_ : 0);
                }
        }
}

/* --- stages of a layer -------------------------------------------------------------------------------------------- */

static void rms_norm(const float *x, const void *weight, int64_t n, float eps, int bf16, void *to, int to_bf16) {
    vec sum = {};
    for (int64_t d = 0; d < n; d += VL) sum += *(const vec *)(x + d) * *(const vec *)(x + d);
    float by = 1.0f / sqrtf(total(sum) / (float)n + eps);
    for (int64_t d = 0; d < n; d += VL) write(to, d, *(const vec *)(x + d) * by * read(weight, d, bf16), to_bf16);
}

static void rotate(float *x, int64_t size, const float *cosines, const float *sines) {
    int64_t half_size = size / 2;
    for (int64_t d = 0; d < half_size; d++) {
        float a = x[d], b = x[d + half_size];
        x[d] = a * cosines[d] - b * sines[d];
        x[d + half_size] = b * cosines[d] + a * sines[d];
    }
}

/* The query heads of one slot that share a key head; q and to: [group][size]; scores: room for a row of positions */
static void attend(const model *m, const layer *l, int64_t slot, int64_t kv, int64_t position, const float *q, float *to,
                   float *scores) {
    int64_t size = m->size, group = m->heads / m->kv, first = 0, base = (slot * m->kv + kv) * m->positions * size;
    if (l->window && position - l->window + 1 > 0) first = position - l->window + 1;
    for (int64_t g = 0; g < group; g++) {
        const float *one = q + g * size;
        float top = -INFINITY, sum = 0, *out = to + g * size;
        for (int64_t j = first; j <= position; j++) {
            vec dot = {};
            for (int64_t d = 0; d < size; d += VL)
                dot += *(const vec *)(one + d) * read(l->keys, base + j * size + d, m->bf16);
            float s = total(dot) * m->scale;
            scores[j - first] = s;
            top = s > top ? s : top;
        }
        int64_t n = position + 1 - first, padded = (n + VL - 1) / VL * VL;
        for (int64_t j = n; j < padded; j++) scores[j] = -INFINITY;
        vec all = {};
        for (int64_t j = 0; j < padded; j += VL) {
            vec p = exp_of(*(vec *)(scores + j) - top);
            *(vec *)(scores + j) = p;
            all += p;
        }
        sum = total(all);
        memset(out, 0, (size_t)size * 4);
        for (int64_t j = 0; j < n; j++) {
            vec p = (vec){} + scores[j];
            for (int64_t d = 0; d < size; d += VL)
                *(vec *)(out + d) += p * read(l->values, base + (first + j) * size + d, m->bf16);
        }
        for (int64_t d = 0; d < size; d++) out[d] /= sum;
    }
}

/* One slot and key head: bias and norms are in q, k, v already; rotate, write the cache, attend, narrow the output. */
static void heads_of(const model *m, const layer *l, int64_t slot, int64_t kv, int64_t position, const float *turn,
                     float *q, float *k, float *v, void *to, float *scores) {
    int64_t size = m->size, group = m->heads / m->kv, base = ((slot * m->kv + kv) * m->positions + position) * size;
    if (l->norm_q)
        for (int64_t g = 0; g < group; g++) rms_norm(q + g * size, l->norm_q, size, m->eps, m->bf16, q + g * size, 0);
    if (l->norm_k) rms_norm(k, l->norm_k, size, m->eps, m->bf16, k, 0);
    for (int64_t g = 0; g < group; g++) rotate(q + g * size, size, turn, turn + size / 2);
    rotate(k, size, turn, turn + size / 2);
    for (int64_t d = 0; d < size; d += VL) {
        write(l->keys, base + d, *(vec *)(k + d), m->bf16);
        write(l->values, base + d, *(vec *)(v + d), m->bf16);
    }
    float *out = scores + (m->positions + VL);
    attend(m, l, slot, kv, position, q, out, scores);
    for (int64_t d = 0; d < group * size; d += VL) write(to, d, *(vec *)(out + d), m->bf16);
}

/* --- the step ----------------------------------------------------------------------------------------------------- */

typedef struct { /* rows of all slots */
    float *x, *q, *k, *v, *gate, *up, *turn;
    void *narrow, *mixed, *inner; /* left sides of products, in the weights' type */
} rows;

static void share(int64_t n, int64_t step, int64_t *from, int64_t *to) { /* this thread's part of n, in whole steps */
    int64_t pieces = (n + step - 1) / step, me = omp_get_thread_num(), all = omp_get_num_threads();
    *from = pieces * me / all * step;
    *to = pieces * (me + 1) / all * step;
    if (*to > n) *to = n;
}

static void through(const model *m, const layer *l, int64_t b, const int64_t *positions, rows r, float *scores) {
    int64_t w = m->width, wq = m->heads * m->size, wk = m->kv * m->size, bytes = m->bf16 ? 2 : 4, from, to;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < b; i++)
        rms_norm(r.x + i * w, l->norm_in, w, m->eps, m->bf16, (char *)r.narrow + i * w * bytes, m->bf16);
    share(wq, NT, &from, &to);
    product(b, w, r.narrow, l->q, l->bias_q, m->bf16, from, to, r.q, wq, 0);
    share(wk, NT, &from, &to);
    product(b, w, r.narrow, l->k, l->bias_k, m->bf16, from, to, r.k, wk, 0);
    product(b, w, r.narrow, l->v, l->bias_v, m->bf16, from, to, r.v, wk, 0);
#pragma omp barrier
#pragma omp for schedule(dynamic, 4)
    for (int64_t job = 0; job < b * m->kv; job++) {
        int64_t i = job / m->kv, kv = job % m->kv, group = wq / m->kv;
        heads_of(m, l, i, kv, positions[i], r.turn + i * m->size, r.q + i * wq + kv * group, r.k + i * wk + kv * m->size,
                 r.v + i * wk + kv * m->size, (char *)r.mixed + (i * wq + kv * group) * bytes, scores);
    }
    share(w, NT, &from, &to);
    product(b, wq, r.mixed, l->o, NULL, m->bf16, from, to, r.x, w, 1);
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t i = 0; i < b; i++)
        rms_norm(r.x + i * w, l->norm_mid, w, m->eps, m->bf16, (char *)r.narrow + i * w * bytes, m->bf16);
    share(m->inner, VL, &from, &to);
    product(b, w, r.narrow, l->gate, NULL, m->bf16, from, to, r.gate, m->inner, 0);
    product(b, w, r.narrow, l->up, NULL, m->bf16, from, to, r.up, m->inner, 0);
    for (int64_t i = 0; i < b; i++)
        for (int64_t d = from; d < to; d += VL) {
            vec g = *(vec *)(r.gate + i * m->inner + d), u = *(vec *)(r.up + i * m->inner + d);
            ivec more = g > -80.0f; /* e^80 is finite, and silu(-80) nothing */
            vec bound = (vec)(((ivec)g & more) | ((ivec)((vec){} - 80.0f) & ~more));
            write(r.inner, i * m->inner + d, g / (1.0f + exp_of(-bound)) * u, m->bf16);
        }
#pragma omp barrier
    share(w, NT, &from, &to);
    product(b, m->inner, r.inner, l->down, NULL, m->bf16, from, to, r.x, w, 1);
#pragma omp barrier
}

/* 0: done; 2: no memory. logits: fp32 [b][vocabulary] */
int step(const model *m, const layer *layers, int64_t b, const int64_t *tokens, const int64_t *positions, float *logits) {
    int64_t w = m->width, wq = m->heads * m->size, wk = m->kv * m->size, each = w + wq + 2 * wk + 2 * m->inner + m->size;
    int64_t narrow = w + wq + m->inner, room = m->positions + VL + wq / m->kv, threads = omp_get_max_threads();
    float *all = aligned_alloc(64, (size_t)((b * (each + narrow) + threads * room) * 4 + 63) / 64 * 64);
    if (!all) return 2;
    rows r;
    r.x = all, r.q = r.x + b * w, r.k = r.q + b * wq, r.v = r.k + b * wk, r.gate = r.v + b * wk;
    r.up = r.gate + b * m->inner, r.turn = r.up + b * m->inner;
    r.narrow = r.turn + b * m->size, r.mixed = (float *)r.narrow + b * w, r.inner = (float *)r.mixed + b * wq;
    float *scores = (float *)r.inner + b * m->inner;
#pragma omp parallel
    {
        int64_t from, to, bytes = m->bf16 ? 2 : 4;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < b; i++) {
            for (int64_t d = 0; d < w; d += VL) *(vec *)(r.x + i * w + d) = read(m->embed, tokens[i] * w + d, m->bf16);
            for (int64_t d = 0; d < m->size / 2; d++) {
                float angle = (float)positions[i] * m->frequencies[d];
                r.turn[i * m->size + d] = cosf(angle) * m->rope_scale;
                r.turn[i * m->size + m->size / 2 + d] = sinf(angle) * m->rope_scale;
            }
        }
        for (int64_t n = 0; n < m->layers; n++)
            through(m, layers + n, b, positions, r, scores + omp_get_thread_num() * room);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < b; i++)
            rms_norm(r.x + i * w, m->norm, w, m->eps, m->bf16, (char *)r.narrow + i * w * bytes, m->bf16);
        share(m->vocabulary, NT, &from, &to);
        product(b, w, r.narrow, m->head, NULL, m->bf16, from, to, logits, m->vocabulary, 0);
    }
    free(all);
    return 0;
}
