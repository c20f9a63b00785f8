/* What attention.c and decode.c share: as many floats as a register holds, and their exponential. */

#include <stdint.h>

#ifdef __AVX512F__
#define VL 16
#else
#define VL 8
#endif

typedef float vec __attribute__((vector_size(VL * 4), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(VL * 4), aligned(4)));

/* exp for x <= 88, 2 ulp: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes' coefficients); below -87 zero */
static inline vec exp_of(vec x) {
    const vec magic = (vec){} + 12582912.0f;
    ivec low = x < ((vec){} - 87.0f);
    vec live = (vec)((ivec)x & ~low), n = live * 1.44269504f + magic - magic;
    vec r = live - n * 0.693359375f + n * 2.12194440e-4f, p = (vec){} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec power = __builtin_convertvector(n, ivec) + 127;
    return (vec)((ivec)(p * (vec)(power << 23)) & ~low);
}
