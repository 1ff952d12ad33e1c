/* kernels/dnnl3.h: oneDNN 3.x, as Debian 13 has it, where descriptors are opaque and owned. */
#ifndef RECO_SRC_DNNL3_H
#define RECO_SRC_DNNL3_H

typedef const_dnnl_memory_desc_t layout_ref;

static inline layout_ref of(const layout *l) { return l->desc; }

static inline bool lay(layout *l, size_t rows, size_t cols, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    return dnnl_memory_desc_create_with_tag(&l->desc, 2, dims, type, tag) == dnnl_success;
}

static inline bool lay_as(layout *l, layout_ref other)
{
    return dnnl_memory_desc_clone(&l->desc, other) == dnnl_success;
}

static inline void lay_off(layout *l) { dnnl_memory_desc_destroy(l->desc); }

static inline bool append_sum(dnnl_post_ops_t post)
{
    return dnnl_post_ops_append_sum(post, 1, 0, dnnl_data_type_undef) == dnnl_success;
}

static inline bool append(dnnl_post_ops_t post, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(post, kind, alpha, 0) == dnnl_success;
}

static inline bool describe_product(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, layout_ref x,
                                    layout_ref weight, layout_ref bias, layout_ref y,
                                    const_dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, x, weight, bias, y, attr) == dnnl_success;
}

/* Newer sets have higher numbers and include older ones; avx2_vnni_2, which has conversions only, is below. */
static inline bool has_bf16(dnnl_cpu_isa_t isa) { return isa >= dnnl_cpu_isa_avx512_core_bf16; }

static inline bool has_amx(dnnl_cpu_isa_t isa)
{
    return (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
}

static inline bool has_vnni(dnnl_cpu_isa_t isa) { return isa >= dnnl_cpu_isa_avx512_core_vnni; }

#endif
