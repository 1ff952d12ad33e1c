/* The slow, obvious versions: what the fast ones are tested against, and what runs at RECO_ISA_PLAIN. */
#include "kernels/kernels_internal.h"

#include <math.h>

void reco_ref_gemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb,
                   bool tb, size_t m, size_t n, size_t k, float alpha, float beta)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double s = 0;
            for (size_t l = 0; l < k; l++)
                s += (double)(ta ? a[l * lda + i] : a[i * lda + l]) *
                     (double)(tb ? b[j * ldb + l] : b[l * ldb + j]);
            float *out = &c[i * ldc + j];
            *out = alpha * (float)s + (beta == 0 ? 0 : beta * *out);
        }
}

float reco_ref_act(float x, reco_act act)
{
    switch (act) {
    case RECO_ACT_GELU:
        return (float)(0.5 * (double)x * (1.0 + erf((double)x * 0.70710678118654752)));
    case RECO_ACT_QUICK_GELU:
        return (float)((double)x / (1.0 + exp(-1.702 * (double)x)));
    case RECO_ACT_GELU_TANH:
        return (float)(0.5 * (double)x *
                       (1.0 + tanh(0.79788456080286536 * ((double)x + 0.044715 * pow((double)x, 3)))));
    case RECO_ACT_NONE:
        break;
    }
    return x;
}

void reco_ref_attention(float *out, const float *qkv, const size_t *starts, size_t n, size_t heads,
                        size_t width, bool causal)
{
    size_t d = heads * width, row = 3 * d;
    for (size_t s = 0; s < n; s++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = starts[s]; i < starts[s + 1]; i++) {
                const float *q = qkv + i * row + h * width;
                size_t end = causal ? i + 1 : starts[s + 1];
                double top = -INFINITY, sum = 0;
                for (int pass = 0; pass < 2; pass++)
                    for (size_t j = starts[s]; j < end; j++) {
                        double logit = 0;
                        for (size_t c = 0; c < width; c++)
                            logit += (double)q[c] * (double)qkv[j * row + d + h * width + c];
                        logit /= sqrt((double)width);
                        if (pass == 0) {
                            top = logit > top ? logit : top;
                            continue;
                        }
                        double p = exp(logit - top);
                        for (size_t c = 0; c < width; c++) {
                            float *o = &out[i * d + h * width + c];
                            *o = (float)((sum == 0 ? 0 : (double)*o) +
                                         p * (double)qkv[j * row + 2 * d + h * width + c]);
                        }
                        sum += p;
                    }
                for (size_t c = 0; c < width; c++) out[i * d + h * width + c] /= (float)sum;
            }
}
