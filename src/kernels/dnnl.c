/* Products by oneDNN. Primitives are made anew for each product: oneDNN caches the compiled code, so that costs
 * microseconds, and nothing mutable is shared between threads. */
#include "kernels/kernels_internal.h"

#include <dnnl.h>

/* How a matrix lies in memory; all zero: none, to be released with lay_off all the same. */
typedef struct layout {
    dnnl_memory_desc_t desc;
} layout;

#if DNNL_VERSION_MAJOR < 3
#include "kernels/dnnl2.h"
#else
#include "kernels/dnnl3.h"
#endif

bool reco_dnnl_sgemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb,
                     bool tb, size_t m, size_t n, size_t k, float alpha, float beta)
{
    return dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k, alpha, a,
                      (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, beta, c, (dnnl_dim_t)ldc) == dnnl_success;
}

struct reco_dnnl_weight {
    dnnl_engine_t engine;
    layout layout; /* of the packed copy */
    dnnl_memory_t memory, bias;
    size_t out, in;
    reco_product_type type;
    reco_act act;
    void *data;
    float *bias_data;
};

static dnnl_data_type_t operand(reco_product_type type)
{
    return type == RECO_PRODUCT_S8 ? dnnl_s8 : dnnl_bf16;
}

static dnnl_data_type_t stored(reco_dtype dtype)
{
    return dtype == RECO_DTYPE_BF16 ? dnnl_bf16 : dtype == RECO_DTYPE_I32 ? dnnl_s32 : dnnl_f32;
}

/* NULL when oneDNN refuses. */
static dnnl_primitive_desc_t describe_weight_product(const reco_dnnl_weight *w, layout_ref weight, size_t m,
                                                     reco_dtype yt, bool add)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    layout x = {0}, y = {0}, bias = {0};
    bool good = lay(&x, m, w->in, operand(w->type), dnnl_ab) && lay(&y, m, w->out, stored(yt), dnnl_ab) &&
                lay(&bias, 1, w->out, dnnl_f32, dnnl_ab) &&
                dnnl_primitive_attr_create(&attr) == dnnl_success &&
                dnnl_post_ops_create(&post) == dnnl_success;
    if (add) good = good && append_sum(post);
    if (w->act == RECO_ACT_GELU) good = good && append(post, dnnl_eltwise_gelu_erf, 0);
    if (w->act == RECO_ACT_QUICK_GELU) good = good && append(post, dnnl_eltwise_swish, 1.702f);
    if (w->act == RECO_ACT_GELU_TANH) good = good && append(post, dnnl_eltwise_gelu_tanh, 0);
    if (!good || dnnl_primitive_attr_set_post_ops(attr, post) != dnnl_success ||
        !describe_product(&pd, w->engine, of(&x), weight, w->bias_data ? of(&bias) : NULL, of(&y), attr))
        pd = NULL;
    dnnl_post_ops_destroy(post);
    dnnl_primitive_attr_destroy(attr);
    lay_off(&x);
    lay_off(&y);
    lay_off(&bias);
    return pd;
}

static bool reorder(dnnl_engine_t engine, dnnl_stream_t stream, dnnl_memory_t from, dnnl_memory_t to,
                    layout_ref from_layout, layout_ref to_layout)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    bool good = dnnl_reorder_primitive_desc_create(&pd, from_layout, engine, to_layout, engine, NULL) ==
                    dnnl_success &&
                dnnl_primitive_create(&primitive, pd) == dnnl_success &&
                dnnl_primitive_execute(primitive, stream, 2, args) == dnnl_success &&
                dnnl_stream_wait(stream) == dnnl_success;
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(pd);
    return good;
}

/* The weight's logical shape is [in][out]; ours lies as [out][in], which is the same bytes with strides swapped. */
reco_dnnl_weight *reco_dnnl_pack(const void *weight, const float *bias, size_t out, size_t in,
                                 reco_product_type type, reco_act act, size_t rows)
{
    reco_dnnl_weight *w = reco_alloc(NULL, 1, sizeof *w, "weights");
    if (!w) return NULL;
    *w = (reco_dnnl_weight){.out = out, .in = in, .type = type, .act = act};
    dnnl_stream_t stream = NULL;
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t pd = NULL;
    layout any = {0}, given = {0};
    union {
        const void *in;
        void *out; /* oneDNN's handle is not const, though it only reads */
    } handle = {weight};
    bool good = lay(&any, in, out, operand(type), dnnl_format_tag_any) &&
                lay(&given, in, out, operand(type), dnnl_ba) &&
                dnnl_engine_create(&w->engine, dnnl_cpu, 0) == dnnl_success &&
                dnnl_stream_create(&stream, w->engine, dnnl_stream_default_flags) == dnnl_success;
    if (good && bias) {
        w->bias_data = reco_alloc(NULL, out, sizeof(float), "bias");
        good = w->bias_data != NULL;
        if (good) memcpy(w->bias_data, bias, out * sizeof(float));
    }
    good = good && (pd = describe_weight_product(w, of(&any), rows,
                                                 type == RECO_PRODUCT_S8 ? RECO_DTYPE_I32 : RECO_DTYPE_F32,
                                                 false)) != NULL;
    if (good && bias)
        good = dnnl_memory_create(&w->bias, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1),
                                  w->engine, w->bias_data) == dnnl_success;
    if (good) {
        good = lay_as(&w->layout, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
        if (good) w->data = reco_alloc_raw(NULL, dnnl_memory_desc_get_size(of(&w->layout)), 1, "weights");
        good = w->data &&
               dnnl_memory_create(&w->memory, of(&w->layout), w->engine, w->data) == dnnl_success &&
               dnnl_memory_create(&source, of(&given), w->engine, handle.out) == dnnl_success &&
               reorder(w->engine, stream, source, w->memory, of(&given), of(&w->layout));
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_memory_destroy(source);
    dnnl_stream_destroy(stream);
    lay_off(&any);
    lay_off(&given);
    if (good) return w;
    reco_dnnl_weight_free(w);
    return NULL;
}

void reco_dnnl_weight_free(reco_dnnl_weight *w)
{
    if (!w) return;
    dnnl_memory_destroy(w->memory);
    dnnl_memory_destroy(w->bias);
    lay_off(&w->layout);
    dnnl_engine_destroy(w->engine);
    reco_free(w->data);
    reco_free(w->bias_data);
    reco_free(w);
}

bool reco_dnnl_product(void *y, reco_dtype yt, const reco_dnnl_weight *w, const void *x, size_t m, bool add)
{
    dnnl_primitive_desc_t pd = describe_weight_product(w, of(&w->layout), m, yt, add);
    dnnl_primitive_t primitive = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_memory_t src = NULL, dst = NULL;
    union {
        const void *in;
        void *out;
    } handle = {x};
    bool good = pd && dnnl_primitive_create(&primitive, pd) == dnnl_success &&
                dnnl_stream_create(&stream, w->engine, dnnl_stream_default_flags) == dnnl_success &&
                dnnl_memory_create(&src, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0), w->engine,
                                   handle.out) == dnnl_success &&
                dnnl_memory_create(&dst, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0), w->engine,
                                   y) == dnnl_success;
    if (good) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, src},
                                  {DNNL_ARG_WEIGHTS, w->memory},
                                  {DNNL_ARG_DST, dst},
                                  {DNNL_ARG_BIAS, w->bias}};
        good = dnnl_primitive_execute(primitive, stream, w->bias ? 4 : 3, args) == dnnl_success &&
               dnnl_stream_wait(stream) == dnnl_success;
    }
    dnnl_memory_destroy(src);
    dnnl_memory_destroy(dst);
    dnnl_stream_destroy(stream);
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(pd);
    return good;
}

bool reco_dnnl_has_bf16(void) { return has_bf16(dnnl_get_effective_cpu_isa()); }

/* Sets without VNNI multiply int8 more slowly than f32. */
bool reco_dnnl_has_int8(void) { return has_vnni(dnnl_get_effective_cpu_isa()); }

bool reco_dnnl_has_amx(void) { return has_amx(dnnl_get_effective_cpu_isa()); }
