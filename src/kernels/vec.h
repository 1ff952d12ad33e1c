/* kernels/vec.h: the loops that are compiled per instruction set, as a table of functions. */
#ifndef RECO_SRC_VEC_H
#define RECO_SRC_VEC_H

#include <stddef.h>
#include <stdint.h>

typedef struct reco_vec {
    float (*dot)(const float *a, const float *b, size_t d);
    /* y [n] = a.x[at[j]], rows ldx apart; at NULL: a.x[j] */
    void (*dots)(float *y, const float *a, const float *x, size_t ldx, const uint32_t *at, size_t n,
                 size_t d);
    /* y [d] += the sum of p[j] x[at[j]] over n rows, ldx apart; at NULL: x[j] */
    void (*mix)(float *y, const float *x, size_t ldx, const uint32_t *at, const float *p, size_t n,
                size_t d);
    /* in double, in an order that is the same in every set */
    double (*dot_wide)(const float *a, const float *b, size_t d);
    /* One row of a scan (scan.h): code [d] is 128 + round((x - mean) / bound[0]); bound: scale, error, norm. y is
     * scratch [d]. */
    void (*encode)(uint8_t *code, float bound[3], const float *x, const float *mean, float *y, size_t d);
    void (*layernorm)(float *y, const float *x, const float *weight, const float *bias, size_t d, float eps,
                      float *mean, float *rstd);
    /* dx += for one row; t1 += dy * xhat and t2 += dy when not NULL */
    void (*layernorm_backward)(float *dx, float *dweight, float *dbias, const float *dy, const float *x,
                               const float *weight, float mean, float rstd, size_t d);
    void (*gelu)(float *y, const float *x, size_t n);
    void (*quick_gelu)(float *y, const float *x, size_t n);
    void (*gelu_tanh)(float *y, const float *x, size_t n);
    void (*gelu_backward)(float *dx, const float *dy, const float *x, size_t n);
    /* *top: the largest x, or NULL; returns what becomes of that */
    float (*softmax)(float *x, size_t n, float *top);
    void (*to_bf16)(uint16_t *y, const float *x, size_t n); /* to nearest even; NaN stays NaN */
    void (*from_bf16)(float *y, const uint16_t *x, size_t n);
    /* y = x / scale rounded, scale = max |x| / 127, returned; all 0 where no |x| is above 1e-30 */
    float (*quantize)(int8_t *y, const float *x, size_t n);
    float (*quantize_bf16)(int8_t *y, const uint16_t *x, size_t n);
    /* y = act(sums * (row * scales) + bias), by reco_act; += where add, which without activation alone heeds */
    void (*rescale[4])(float *y, const int32_t *sums, float row, const float *scales, const float *bias,
                       int add, size_t n);
    /* nq queries of one head against packed keys kt [w][ldk] and values v [keys][w]; s is scratch
     * [4 * ldk + 4 * w] */
    void (*attend)(float *out, size_t ldo, const float *q, size_t ldq, const float *kt, size_t ldk,
                   const float *v, size_t nq, size_t keys, size_t w, int causal, float *s);
} reco_vec;

extern const reco_vec reco_vec_plain;
#ifdef RECO_VEC_X86
extern const reco_vec reco_vec_avx2, reco_vec_avx512;
#endif

#endif
