#include "image/picture.h"

/* A byte has 256 values and there are three channels: a table is both faster and rounds where the reference does
 * (product in double, the rest in float). */
void reco_image_normalize(float *out, const uint8_t *rgb, size_t side, const reco_preprocess *pre)
{
    double factor = pre->rescale_factor != 0 ? pre->rescale_factor : 1.0 / 255.0;
    size_t pixels = side * side;
    for (size_t c = 0; c < 3; c++, out += pixels) {
        float table[256];
        for (int v = 0; v < 256; v++) {
            float f = pre->rescale ? (float)(v * factor) : (float)v;
            table[v] = pre->normalize ? (f - pre->mean[c]) / pre->std[c] : f;
        }
        for (size_t i = 0; i < pixels; i++) out[i] = table[rgb[3 * i + c]];
    }
}
