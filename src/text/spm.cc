// The only file of C++: no exception leaves it.
#include "text/spm.h"

#include <cstdio>
#include <sentencepiece_processor.h>

struct reco_spm {
    sentencepiece::SentencePieceProcessor processor;
};

reco_spm *reco_spm_load(const void *data, size_t bytes, char *error, size_t room)
{
    reco_spm *spm = nullptr;
    try {
        spm = new reco_spm;
        auto status = spm->processor.LoadFromSerializedProto(
            absl::string_view(static_cast<const char *>(data), bytes));
        if (status.ok() && spm->processor.GetPieceSize() > 0) return spm;
        snprintf(error, room, "%s", status.ok() ? "no pieces" : status.ToString().c_str());
    } catch (...) {
        snprintf(error, room, "refused by sentencepiece");
    }
    delete spm;
    return nullptr;
}

void reco_spm_free(reco_spm *spm) { delete spm; }

size_t reco_spm_size(const reco_spm *spm) { return static_cast<size_t>(spm->processor.GetPieceSize()); }

int32_t reco_spm_id(const reco_spm *spm, const char *piece)
{
    try {
        return spm->processor.PieceToId(piece);
    } catch (...) {
        return spm->processor.unk_id();
    }
}

int32_t reco_spm_unk(const reco_spm *spm) { return spm->processor.unk_id(); }

long reco_spm_encode(const reco_spm *spm, const char *text, size_t bytes, int32_t *ids, size_t max)
{
    try {
        std::vector<int> all;
        if (!spm->processor.Encode(absl::string_view(text, bytes), &all).ok()) return -1;
        for (size_t i = 0; i < all.size() && i < max; i++) ids[i] = all[i];
        return static_cast<long>(all.size());
    } catch (...) {
        return -1;
    }
}
