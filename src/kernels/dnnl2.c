/* oneDNN 2.x, as Debian 12 has it. Primitives are made anew for each product: oneDNN caches the compiled code, so that
 * costs microseconds, and nothing mutable is shared between threads. */
#include "kernels/dnnl_types.h"

bool reco_dnnl_sgemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb,
                     bool tb, size_t m, size_t n, size_t k, float alpha, float beta)
{
    return dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k, alpha, a,
                      (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, beta, c, (dnnl_dim_t)ldc) == dnnl_success;
}

struct reco_dnnl_weight {
    dnnl_engine_t engine;
    dnnl_memory_desc_t desc; /* of the packed copy */
    dnnl_memory_t memory, bias;
    size_t out, in;
    reco_product_type type;
    reco_act act;
    void *data;
    float *bias_data;
};

static dnnl_memory_desc_t plain(size_t rows, size_t cols, dnnl_data_type_t type)
{
    dnnl_memory_desc_t desc;
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    dnnl_memory_desc_init_by_tag(&desc, 2, dims, type, dnnl_ab);
    return desc;
}

static dnnl_primitive_desc_t describe(const reco_dnnl_weight *w, const dnnl_memory_desc_t *weight, size_t m,
                                      reco_dtype yt, bool add)
{
    dnnl_matmul_desc_t op;
    dnnl_memory_desc_t x = plain(m, w->in, operand(w->type)), y = plain(m, w->out, stored(yt)),
                       bias = plain(1, w->out, dnnl_f32);
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    if (dnnl_matmul_desc_init(&op, &x, weight, w->bias ? &bias : NULL, &y) != dnnl_success) return NULL;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success) return NULL;
    if (dnnl_post_ops_create(&post) == dnnl_success) {
        if (add) dnnl_post_ops_append_sum(post, 1);
        if (w->act == RECO_ACT_GELU) dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_gelu_erf, 0, 0);
        if (w->act == RECO_ACT_QUICK_GELU)
            dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_swish, 1.702f, 0);
        if (w->act == RECO_ACT_GELU_TANH)
            dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_gelu_tanh, 0, 0);
        if (dnnl_primitive_attr_set_post_ops(attr, post) != dnnl_success ||
            dnnl_primitive_desc_create(&pd, &op, attr, w->engine, NULL) != dnnl_success)
            pd = NULL;
    }
    dnnl_post_ops_destroy(post);
    dnnl_primitive_attr_destroy(attr);
    return pd;
}

static bool reorder(dnnl_engine_t engine, dnnl_stream_t stream, dnnl_memory_t from, dnnl_memory_t to,
                    const dnnl_memory_desc_t *from_desc, const dnnl_memory_desc_t *to_desc)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    bool good =
        dnnl_reorder_primitive_desc_create(&pd, from_desc, engine, to_desc, engine, NULL) == dnnl_success &&
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
    dnnl_dims_t dims = {(dnnl_dim_t)in, (dnnl_dim_t)out};
    dnnl_memory_desc_t any, given, bias_desc = plain(1, out, dnnl_f32);
    dnnl_memory_desc_init_by_tag(&any, 2, dims, operand(type), dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&given, 2, dims, operand(type), dnnl_ba);
    union {
        const void *in;
        void *out; /* oneDNN's handle is not const, though it only reads */
    } handle = {weight};
    bool good = dnnl_engine_create(&w->engine, dnnl_cpu, 0) == dnnl_success &&
                dnnl_stream_create(&stream, w->engine, dnnl_stream_default_flags) == dnnl_success;
    if (good && bias) {
        w->bias_data = reco_alloc(NULL, out, sizeof(float), "bias");
        good = w->bias_data != NULL;
        if (good) memcpy(w->bias_data, bias, out * sizeof(float));
        good = good && dnnl_memory_create(&w->bias, &bias_desc, w->engine, w->bias_data) == dnnl_success;
    }
    good = good && (pd = describe(w, &any, rows, reco_product_result(type), false)) != NULL;
    if (good) {
        w->desc = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        w->data = reco_alloc_raw(NULL, dnnl_memory_desc_get_size(&w->desc), 1, "weights");
        good = w->data && dnnl_memory_create(&w->memory, &w->desc, w->engine, w->data) == dnnl_success &&
               dnnl_memory_create(&source, &given, w->engine, handle.out) == dnnl_success &&
               reorder(w->engine, stream, source, w->memory, &given, &w->desc);
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_memory_destroy(source);
    dnnl_stream_destroy(stream);
    if (good) return w;
    reco_dnnl_weight_free(w);
    return NULL;
}

void reco_dnnl_weight_free(reco_dnnl_weight *w)
{
    if (!w) return;
    dnnl_memory_destroy(w->memory);
    dnnl_memory_destroy(w->bias);
    dnnl_engine_destroy(w->engine);
    reco_free(w->data);
    reco_free(w->bias_data);
    reco_free(w);
}

bool reco_dnnl_product(void *y, reco_dtype yt, const reco_dnnl_weight *w, const void *x, size_t m, bool add)
{
    dnnl_primitive_desc_t pd = describe(w, &w->desc, m, yt, add);
    dnnl_primitive_t primitive = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_memory_t src = NULL, dst = NULL;
    dnnl_memory_desc_t xd = plain(m, w->in, operand(w->type)), yd = plain(m, w->out, stored(yt));
    union {
        const void *in;
        void *out;
    } handle = {x};
    bool good = pd && dnnl_primitive_create(&primitive, pd) == dnnl_success &&
                dnnl_stream_create(&stream, w->engine, dnnl_stream_default_flags) == dnnl_success &&
                dnnl_memory_create(&src, &xd, w->engine, handle.out) == dnnl_success &&
                dnnl_memory_create(&dst, &yd, w->engine, y) == dnnl_success;
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

bool reco_dnnl_has_bf16(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx;
}

/* Every set from this one on has VNNI; older ones multiply int8 more slowly than f32. */
bool reco_dnnl_has_int8(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return isa == dnnl_cpu_isa_avx512_core_vnni || reco_dnnl_has_bf16();
}
