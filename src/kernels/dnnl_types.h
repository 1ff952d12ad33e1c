/* kernels/dnnl_types.h: our types as oneDNN's, for the files of both generations of its interface. */
#ifndef RECO_SRC_DNNL_TYPES_H
#define RECO_SRC_DNNL_TYPES_H

#include "kernels/kernels_internal.h"

#include <dnnl.h>

/* What the operands of each type of product are. */
static inline dnnl_data_type_t operand(reco_product_type type)
{
    return type == RECO_PRODUCT_BF16 ? dnnl_bf16 : type == RECO_PRODUCT_S8 ? dnnl_s8 : dnnl_f32;
}

static inline dnnl_data_type_t stored(reco_dtype dtype)
{
    return dtype == RECO_DTYPE_BF16 ? dnnl_bf16 : dtype == RECO_DTYPE_I32 ? dnnl_s32 : dnnl_f32;
}

#endif
