/* Packed causal attention on the CPU, forward and backward, for posttrain/attention.py.

   One task is a family of segments (a plain document, or a shared prefix with its branches) and one key/value head. Its
   keys and values are copied once as fp32 [d][j] and [j][d]; then blocks of query rows of every query head that uses them
   are small dense products with everything in the nearest cache. Scores and sums are fp32 whatever the inputs are.
   A task writes only its own tokens and adds in a fixed order: results are the same for any number of threads.

   softmax: p = exp(s - lse), s = scale q k^T, or c tanh(scale q k^T / c) with a soft cap c.
   gradients (arXiv:2205.14135, appendix B): dv = p^T g, dp = g v^T, ds = p (dp - sum_d g out), dq = ds k, dk = ds^T q.

   Layout of every tensor: token t, head h, channel d at t * ts + h * hs + d (strides in elements). Segments: rows of
   q0, q1, p0, p1; queries [q0, q1) see keys [p0, p1) and, causally, their own [q0, q1).
   Left out on purpose: intrinsics (GCC and clang make AVX2, AVX-512 and NEON of the vector type), fp64, dropout. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vec.h"

#ifdef __AVX512F__
#define NV 4 /* vectors in a tile's row: NV MR accumulators, NV rows of B and one broadcast fill the registers */
#else
#define NV 2
#endif
#define MR 6
#define ROWS 48 /* query rows of a block */

typedef struct {
    void *at;
    int64_t ts, hs; /* strides of tokens and heads, in elements */
    int bf16;
} tensor;

typedef struct {
    int64_t n, heads, kv, size, window;
    float scale, cap;
} shape;

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static inline float wide(uint16_t x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint16_t narrow(float f) { /* round to nearest even; NaN stays NaN */
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void load_row(const tensor *x, int64_t t, int64_t h, int64_t n, float *to) {
    int64_t at = t * x->ts + h * x->hs;
    if (x->bf16) {
        const uint16_t *from = (const uint16_t *)x->at + at;
        for (int64_t d = 0; d < n; d++) to[d] = wide(from[d]);
    } else {
        memcpy(to, (const float *)x->at + at, (size_t)n * 4);
    }
}

static void store_row(const tensor *x, int64_t t, int64_t h, int64_t n, const float *from, float by) {
    int64_t at = t * x->ts + h * x->hs;
    if (x->bf16) {
        uint16_t *to = (uint16_t *)x->at + at;
        for (int64_t d = 0; d < n; d++) to[d] = narrow(from[d] * by);
    } else {
        float *to = (float *)x->at + at;
        for (int64_t d = 0; d < n; d++) to[d] = from[d] * by;
    }
}

static inline float lanes(vec x) {
    float sum = 0;
    for (int j = 0; j < VL; j++) sum += x[j];
    return sum;
}

/* --- products ----------------------------------------------------------------------------------------------------- */

/* C[m][n VL] (+)= sum_k A[m][k] B[k][n VL], A with any strides, rows of B and C contiguous */
static inline __attribute__((always_inline)) void tile(const int m, const int n, int64_t k, const float *a, int64_t am,
                                                       int64_t ak, const float *b, int64_t bk, float *c, int64_t cm,
                                                       int add) {
    vec sum[MR][NV];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) sum[i][j] = add ? *(const vec *)(c + i * cm + j * VL) : (vec){};
    for (int64_t x = 0; x < k; x++) {
        vec row[NV];
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) row[j] = *(const vec *)(b + x * bk + j * VL);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            vec one = (vec){} + a[i * am + x * ak];
#pragma GCC unroll 8
            for (int j = 0; j < n; j++) sum[i][j] += one * row[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) *(vec *)(c + i * cm + j * VL) = sum[i][j];
}

#define COLUMNS(N)                                                                                                     \
    for (; i + MR <= m; i += MR)                                                                                       \
        tile(MR, N, k, a + i * am, am, ak, b + j, bk, c + i * cm + j, cm, add);                                        \
    for (; i < m; i++) tile(1, N, k, a + i * am, am, ak, b + j, bk, c + i * cm + j, cm, add);

/* C[m][n] (+)= A[m][k] B[k][n]; n is a multiple of VL */
static void product(int64_t m, int64_t n, int64_t k, const float *a, int64_t am, int64_t ak, const float *b, int64_t bk,
                    float *c, int64_t cm, int add) {
    int64_t j = 0;
    for (; j + NV * VL <= n; j += NV * VL) {
        int64_t i = 0;
        COLUMNS(NV)
    }
    for (; j < n; j += VL) {
        int64_t i = 0;
        COLUMNS(1)
    }
}

/* --- a family ----------------------------------------------------------------------------------------------------- */

static inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

typedef struct { /* what one thread works in; grown, never shrunk */
    float *at;
    size_t floats;
} space;

static __thread space mine;

static float *room(size_t floats) {
    if (mine.floats < floats) {
        free(mine.at);
        mine.at = aligned_alloc(64, up((int64_t)floats * 4, 64));
        mine.floats = mine.at ? floats : 0;
    }
    return mine.at;
}

/* Keys of a segment stand as prefix | own; columns of the transposed copy: n rounded up to VL, the rest zero. */
static void take(const tensor *x, const int64_t *s, int64_t h, int64_t size, float *rows, float *columns, int64_t width) {
    int64_t prefix = s[3] - s[2], n = prefix + s[1] - s[0];
    for (int64_t j = 0; j < n; j++) load_row(x, j < prefix ? s[2] + j : s[0] + j - prefix, h, size, rows + j * size);
    memset(rows + n * size, 0, (size_t)((width - n) * size) * 4);
    if (columns)
        for (int64_t j = 0; j < width; j++)
            for (int64_t d = 0; d < size; d++) columns[d * width + j] = rows[j * size + d];
}

typedef struct {
    int64_t from, to, wide; /* columns that some row of the block sees: [from, to), and how many are computed */
} span;

static span columns_of(int64_t i, int64_t end, int64_t prefix, int64_t window) {
    int64_t from = window && prefix + i - window + 1 > 0 ? (prefix + i - window + 1) / VL * VL : 0;
    int64_t to = prefix + end;
    return (span){from, to, up(to - from, VL)};
}

/* Set what row r of a block must not see to `with`; the row's first column is `at.from`. */
static void hide(float *row, span at, int64_t last, int64_t window, float with) {
    for (int64_t j = last + 1 - at.from; j < at.wide; j++) row[j] = with;
    if (window)
        for (int64_t j = 0; j < last + 1 - window - at.from; j++) row[j] = with;
}

static void squash(float *row, int64_t n, float scale, float cap) {
    if (cap > 0)
        for (int64_t j = 0; j < n; j++) row[j] = cap * tanhf(row[j] * scale / cap);
    else
        for (int64_t j = 0; j < n; j++) row[j] *= scale;
}

/* A row of scores becomes exp(row - top); returns the log of the softmax's denominator, *sum is the denominator / e^top. */
static float soften(float *row, int64_t n, float *sum) {
    vec most = (vec){} - INFINITY, total = {};
    float top = -INFINITY;
    for (int64_t j = 0; j < n; j += VL) {
        vec x = *(vec *)(row + j);
        ivec more = x > most;
        most = (vec)(((ivec)x & more) | ((ivec)most & ~more));
    }
    for (int j = 0; j < VL; j++) top = most[j] > top ? most[j] : top;
    for (int64_t j = 0; j < n; j += VL) {
        vec p = exp_of(*(vec *)(row + j) - top);
        *(vec *)(row + j) = p;
        total += p;
    }
    *sum = lanes(total);
    return top + logf(*sum);
}

static void forward_segment(shape z, tensor q, tensor k, tensor v, tensor out, float *lse, const int64_t *s, int64_t kv,
                            float *work) {
    int64_t prefix = s[3] - s[2], n = s[1] - s[0], width = up(prefix + n, VL), size = z.size;
    float *keys = work, *values = keys + width * size, *block = values + width * size, *scores = block + ROWS * size,
          *result = scores + ROWS * width, sums[ROWS];
    take(&k, s, kv, size, values, keys, width);
    take(&v, s, kv, size, values, NULL, width);
    for (int64_t h = kv * (z.heads / z.kv); h < (kv + 1) * (z.heads / z.kv); h++)
        for (int64_t i = 0; i < n; i += ROWS) {
            int64_t rows = n - i < ROWS ? n - i : ROWS;
            span at = columns_of(i, i + rows, prefix, z.window);
            for (int64_t r = 0; r < rows; r++) load_row(&q, s[0] + i + r, h, size, block + r * size);
            product(rows, at.wide, size, block, size, 1, keys + at.from, width, scores, at.wide, 0);
            for (int64_t r = 0; r < rows; r++) {
                float *row = scores + r * at.wide;
                squash(row, at.wide, z.scale, z.cap);
                hide(row, at, prefix + i + r, z.window, -INFINITY);
                lse[(s[0] + i + r) * z.heads + h] = soften(row, at.wide, sums + r);
            }
            product(rows, size, at.to - at.from, scores, at.wide, 1, values + at.from * size, size, result, size, 0);
            for (int64_t r = 0; r < rows; r++) store_row(&out, s[0] + i + r, h, size, result + r * size, 1 / sums[r]);
        }
}

static float dot(const float *a, const float *b, int64_t n) {
    vec sum = {};
    for (int64_t d = 0; d < n; d += VL) sum += *(const vec *)(a + d) * *(const vec *)(b + d);
    return lanes(sum);
}

/* gradients of one row's scores: row holds s, then p; slope holds dp, then ds */
static void slopes_of(float *row, float *slope, int64_t n, shape z, float lse, float delta) {
    for (int64_t j = 0; j < n; j += VL) {
        vec s = *(vec *)(row + j), p = exp_of(s - lse), d = (*(vec *)(slope + j) - delta) * p;
        if (z.cap > 0) d *= 1.0f - s * s / (z.cap * z.cap);
        *(vec *)(row + j) = p;
        *(vec *)(slope + j) = d;
    }
}

static void backward_segment(shape z, tensor g, tensor q, tensor k, tensor v, tensor out, const float *lse, tensor dq,
                             tensor dk, tensor dv, const int64_t *s, int64_t kv, float *before_k, float *before_v,
                             float *work) {
    int64_t prefix = s[3] - s[2], n = s[1] - s[0], width = up(prefix + n, VL), size = z.size, all = width * size;
    float *keys = work, *key_rows = keys + all, *values = key_rows + all, *sum_k = values + all, *sum_v = sum_k + all,
          *block = sum_v + all, *slope_block = block + ROWS * size, *result = slope_block + ROWS * size,
          *scores = result + ROWS * size, *slopes = scores + ROWS * width;
    take(&v, s, kv, size, sum_v, values, width);
    take(&k, s, kv, size, key_rows, keys, width);
    memset(sum_k, 0, (size_t)all * 4);
    memset(sum_v, 0, (size_t)all * 4);
    for (int64_t h = kv * (z.heads / z.kv); h < (kv + 1) * (z.heads / z.kv); h++)
        for (int64_t i = 0; i < n; i += ROWS) {
            int64_t rows = n - i < ROWS ? n - i : ROWS;
            span at = columns_of(i, i + rows, prefix, z.window);
            for (int64_t r = 0; r < rows; r++) {
                load_row(&q, s[0] + i + r, h, size, block + r * size);
                load_row(&g, s[0] + i + r, h, size, slope_block + r * size);
            }
            product(rows, at.wide, size, block, size, 1, keys + at.from, width, scores, at.wide, 0);
            product(rows, at.wide, size, slope_block, size, 1, values + at.from, width, slopes, at.wide, 0);
            for (int64_t r = 0; r < rows; r++) {
                load_row(&out, s[0] + i + r, h, size, result);
                float delta = dot(result, slope_block + r * size, size);
                squash(scores + r * at.wide, at.wide, z.scale, z.cap);
                slopes_of(scores + r * at.wide, slopes + r * at.wide, at.wide, z, lse[(s[0] + i + r) * z.heads + h], delta);
                hide(scores + r * at.wide, at, prefix + i + r, z.window, 0);
                hide(slopes + r * at.wide, at, prefix + i + r, z.window, 0);
            }
            int64_t live = at.to - at.from;
            product(rows, size, live, slopes, at.wide, 1, key_rows + at.from * size, size, result, size, 0);
            for (int64_t r = 0; r < rows; r++) store_row(&dq, s[0] + i + r, h, size, result + r * size, z.scale);
            product(live, size, rows, slopes, 1, at.wide, block, size, sum_k + at.from * size, size, 1);
            product(live, size, rows, scores, 1, at.wide, slope_block, size, sum_v + at.from * size, size, 1);
        }
    for (int64_t j = 0; j < prefix * size; j++) before_k[j] += sum_k[j], before_v[j] += sum_v[j];
    if (before_k && !prefix)  /* the prefix itself: its branches come next, and add to it */
        for (int64_t j = 0; j < n * size; j++) before_k[j] += sum_k[j], before_v[j] += sum_v[j];
    else
        for (int64_t j = 0; j < n; j++) {
            store_row(&dk, s[0] + j, kv, size, sum_k + (prefix + j) * size, z.scale);
            store_row(&dv, s[0] + j, kv, size, sum_v + (prefix + j) * size, 1);
        }
}

/* --- what is called ----------------------------------------------------------------------------------------------- */

/* Families in a list of segments: starts[f] is the first segment of family f, starts[count] the end. -1 when a segment's
   prefix is not the first segment of its family. */
static int64_t families(const int64_t *s, int64_t n, int64_t *starts) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (s[4 * i + 2] == s[4 * i + 3]) {
            starts[count++] = i;
            continue;
        }
        if (!count) return -1;
        const int64_t *first = s + 4 * starts[count - 1];
        if (first[0] != s[4 * i + 2] || first[1] != s[4 * i + 3]) return -1;
    }
    starts[count] = n;
    return count;
}

static int64_t widest(const int64_t *s, int64_t n) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t keys = s[4 * i + 1] - s[4 * i] + s[4 * i + 3] - s[4 * i + 2];
        most = keys > most ? keys : most;
    }
    return up(most, VL);
}

typedef struct {
    shape z;
    tensor g, q, k, v, out, dq, dk, dv;
    float *lse;
} problem;

static void forward_family(const problem *x, const int64_t *s, int64_t n, int64_t kv, float *work) {
    for (int64_t i = 0; i < n; i++) forward_segment(x->z, x->q, x->k, x->v, x->out, x->lse, s + 4 * i, kv, work);
}

static void backward_family(const problem *x, const int64_t *s, int64_t n, int64_t kv, float *work) {
    int64_t tokens = n > 1 ? s[1] - s[0] : 0, prefix = tokens * x->z.size; /* of a prefix that branches add to */
    float *before_k = prefix ? work : NULL, *before_v = prefix ? work + prefix : NULL;
    memset(work, 0, (size_t)prefix * 8);
    for (int64_t i = 0; i < n; i++)
        backward_segment(x->z, x->g, x->q, x->k, x->v, x->out, x->lse, x->dq, x->dk, x->dv, s + 4 * i, kv, before_k,
                         before_v, work + 2 * prefix);
    for (int64_t j = 0; j < tokens; j++) {
        store_row(&x->dk, s[0] + j, kv, x->z.size, before_k + j * x->z.size, x->z.scale);
        store_row(&x->dv, s[0] + j, kv, x->z.size, before_v + j * x->z.size, 1);
    }
}

/* work_on(family, key head) for all of them; each gets room for by_key floats for every key of the widest segment and
   `fixed` more. 0: done; 1: segments that are not families; 2: no memory */
static int each_family(const problem *x, const int64_t *segments, int64_t by_key, int64_t fixed,
                       void (*work_on)(const problem *, const int64_t *, int64_t, int64_t, float *)) {
    int64_t *starts = malloc((size_t)(x->z.n + 1) * 8), count = starts ? families(segments, x->z.n, starts) : -1;
    size_t floats = (size_t)(widest(segments, x->z.n) * by_key + fixed);
    int failed = count < 0;
    if (!failed) {
#pragma omp parallel for schedule(dynamic) collapse(2)
        for (int64_t f = 0; f < count; f++)
            for (int64_t kv = 0; kv < x->z.kv; kv++) {
                float *work = room(floats);
                if (work) {
                    work_on(x, segments + 4 * starts[f], starts[f + 1] - starts[f], kv, work);
                } else {
#pragma omp atomic write
                    failed = 2;
                }
            }
    }
    free(starts);
    return failed;
}

int forward(shape z, tensor q, tensor k, tensor v, tensor out, float *lse, const int64_t *segments) {
    problem x = {.z = z, .q = q, .k = k, .v = v, .out = out, .lse = lse};
    return each_family(&x, segments, 2 * z.size + ROWS, 2 * ROWS * z.size, forward_family);
}

int backward(shape z, tensor g, tensor q, tensor k, tensor v, tensor out, float *lse, tensor dq, tensor dk, tensor dv,
             const int64_t *segments) {
    problem x = {.z = z, .g = g, .q = q, .k = k, .v = v, .out = out, .dq = dq, .dk = dk, .dv = dv, .lse = lse};
    return each_family(&x, segments, 7 * z.size + 2 * ROWS, 3 * ROWS * z.size, backward_family);
}
