#include "pipeline/provenance.h"

#include <errno.h>
#include <math.h>
#include <strings.h>
#include <unistd.h>

#define FILE_NAME "reco.json"
#define EMBEDDED "reco-embeddings-1"
#define EXPORTED "reco-export-1"

static const char *const side_names[] = {"image", "text"};

/* ---- reading ---- */

static bool copy_member(const json_t *json, const char *key, char *out, size_t room)
{
    const char *text = json_string_value(json_object_get(json, key));
    if (!text || strlen(text) >= room) return false;
    strcpy(out, text);
    return true;
}

/* A list of sides as bits; both where there is none, as in the exports of older versions. */
static int sides_of(const json_t *json, const char *key, int otherwise)
{
    const json_t *list = json_object_get(json, key), *item;
    size_t i;
    int sides = 0;
    if (!json_is_array(list)) return otherwise;
    json_array_foreach(list, i, item)
    {
        for (int side = 0; side < 2; side++)
            if (json_is_string(item) && strcmp(json_string_value(item), side_names[side]) == 0)
                sides |= 1 << side;
    }
    return sides;
}

static reco_status parse_provenance(reco_ctx *ctx, const json_t *json, const char *path, reco_provenance *p)
{
    const char *format = json_string_value(json_object_get(json, "format"));
    bool known = format && (strcmp(format, EMBEDDED) == 0 || strcmp(format, EXPORTED) == 0);
    if (!known && format &&
        (strncmp(format, "reco-export-", 12) == 0 || strncmp(format, "reco-embeddings-", 16) == 0))
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: format \"%s\", want " EMBEDDED " or " EXPORTED, path,
                         format);
    if (!known) return RECO_OK; /* somebody else's file */
    const json_t *precision = json_object_get(json, "precision");
    double scale = json_number_value(json_object_get(json, "logit_scale"));
    json_int_t d = json_integer_value(json_object_get(json, "dimensions"));
    if (!copy_member(json, "encoder", p->encoder, sizeof p->encoder) ||
        !copy_member(json, "fingerprint", p->fingerprint, sizeof p->fingerprint) ||
        !(scale >= 0 && scale <= 1e6))
        return reco_fail(ctx, RECO_E_FORMAT,
                         "%s: encoder, fingerprint or logit_scale is missing or damaged", path);
    p->found = true;
    p->exported = strcmp(format, EXPORTED) == 0;
    p->logit_scale = (float)scale;
    p->d = d > 0 ? (size_t)d : 0;
    p->sides = sides_of(json, "sides", RECO_SIDES_BOTH);
    p->refined = sides_of(json, "refined", 0);
    const json_t *concat = json_object_get(json, "concat");
    p->concat = concat != NULL;
    p->weight = (float)json_number_value(concat);
    p->exif = json_is_true(json_object_get(json, "exif"));
    for (int side = 0; side < 2; side++)
        copy_member(precision, side_names[side], p->precision[side], sizeof p->precision[side]);
    return RECO_OK;
}

reco_status reco_provenance_read(reco_ctx *ctx, const char *dir, reco_provenance *p)
{
    *p = (reco_provenance){0};
    json_t *json = NULL;
    char *path = reco_path_join(ctx, dir, FILE_NAME);
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (!reco_path_exists(path)) goto out;
    RECO_GO(reco_json_load(ctx, &json, path));
    status = parse_provenance(ctx, json, path, p);
out:
    json_decref(json);
    reco_free(path);
    return status;
}

/* ---- what the user says ---- */

static reco_status of_model(reco_ctx *ctx, const char *dir, reco_provenance *p)
{
    reco_model *model = NULL;
    RECO_TRY(reco_model_open(ctx, &model, dir, NULL));
    reco_model_info info = *reco_model_get_info(model);
    snprintf(p->encoder, sizeof p->encoder, "%s", info.name);
    p->logit_scale = info.logit_scale;
    p->d = info.d;
    p->found = true;
    reco_status status = reco_model_fingerprint(ctx, model, p->fingerprint);
    reco_model_close(model);
    return status;
}

static reco_status told(reco_ctx *ctx, const char *encoder, reco_provenance *p)
{
    *p = (reco_provenance){.sides = RECO_SIDES_BOTH};
    size_t n = strlen(encoder);
    if (reco_path_is_dir(encoder)) return of_model(ctx, encoder, p);
    if (n == 0 || n >= sizeof p->encoder || reco_utf8_errors(encoder, n) > 0)
        return reco_fail(ctx, RECO_E_ARG, "encoder = \"%.300s\", want a name of 1 to 255 bytes of UTF-8",
                         encoder);
    if (encoder[0] == '/' || encoder[0] == '.' || encoder[n - 1] == '/')
        return reco_fail(ctx, RECO_E_IO, "%s: no such model folder", encoder);
    strcpy(p->encoder, encoder);
    p->found = true;
    return RECO_OK;
}

static const char *name_or_unnamed(const char *name) { return name && *name ? name : "unnamed"; }

static const char *printed(const char *print) { return print && *print ? print : "no fingerprint"; }

reco_status reco_provenance_of(reco_ctx *ctx, const char *dir, const char *encoder, reco_provenance *p)
{
    reco_provenance said = {0};
    RECO_TRY(reco_provenance_read(ctx, dir, p));
    if (p->concat)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: holds the output of refine --concat, which is twice as wide as the encoder's "
                         "embeddings; want the original ones",
                         dir);
    if (!encoder) return RECO_OK;
    RECO_TRY(told(ctx, encoder, &said));
    if (!reco_encoder_matches(p->encoder, p->fingerprint, said.encoder, said.fingerprint))
        return reco_fail(ctx, RECO_E_MISMATCH, "%s/" FILE_NAME " says encoder %s (%s), not %s (%s)", dir,
                         name_or_unnamed(p->encoder), printed(p->fingerprint), said.encoder,
                         printed(said.fingerprint));
    if (!p->found)
        *p = said;
    else if (!*p->fingerprint &&
             (*said.fingerprint || !*p->encoder)) { /* an export of unknown origin, say */
        memcpy(p->encoder, said.encoder, sizeof p->encoder);
        memcpy(p->fingerprint, said.fingerprint, sizeof p->fingerprint);
        p->logit_scale = said.logit_scale;
    }
    return RECO_OK;
}

/* ---- writing ---- */

static json_t *list_of(int sides)
{
    json_t *list = json_array();
    for (int side = 0; side < 2; side++)
        if (sides >> side & 1) json_array_append_new(list, json_string(side_names[side]));
    return list;
}

reco_status reco_provenance_write(reco_ctx *ctx, const char *dir, const reco_provenance *p)
{
    reco_file *file = NULL;
    char *path = reco_path_join(ctx, dir, FILE_NAME);
    reco_status status = RECO_OK;
    if (!path) return RECO_E_NOMEM;
    if (!p->found) {
        if (unlink(path) == 0)
            status = reco_sync_dir(ctx, dir);
        else if (errno != ENOENT)
            status = reco_fail_errno(ctx, RECO_E_IO, "%s", path);
        reco_free(path);
        return status;
    }
    json_t *json = json_pack("{s:s, s:I, s:o, s:s, s:f, s:o}", "format", p->exported ? EXPORTED : EMBEDDED,
                             "dimensions", (json_int_t)p->d, "encoder",
                             reco_json_text(p->encoder, strlen(p->encoder)), "fingerprint", p->fingerprint,
                             "logit_scale", (double)p->logit_scale, "sides", list_of(p->sides));
    if (p->exported) json_object_set_new(json, "rows", json_integer((json_int_t)p->rows));
    if (p->refined) json_object_set_new(json, "refined", list_of(p->refined));
    if (p->concat) json_object_set_new(json, "concat", json_real(round((double)p->weight * 1e6) / 1e6));
    if (p->exif) json_object_set_new(json, "exif", json_true());
    for (int side = 0; side < 2 && json; side++) {
        if (!(p->sides >> side & 1) || !*p->precision[side]) continue;
        json_t *precision = json_object_get(json, "precision");
        if (!precision) json_object_set_new(json, "precision", precision = json_object());
        json_object_set_new(precision, side_names[side], json_string(p->precision[side]));
    }
    status = reco_file_begin(ctx, &file, path);
    if (status == RECO_OK)
        status = reco_write_json_line(ctx, file, json);
    else
        json_decref(json);
    if (status == RECO_OK)
        status = reco_file_commit(ctx, file);
    else
        reco_file_abort(file);
    reco_free(path);
    return status;
}

/* ---- checking ---- */

reco_status reco_provenance_check(reco_ctx *ctx, const reco_provenance *p, const char *what,
                                  const reco_bank *bank, const reco_fusion *fusion)
{
    if (bank) {
        reco_bank_info b = *reco_bank_get_info(bank);
        if (!reco_encoder_matches(p->encoder, p->fingerprint, b.encoder, b.fingerprint))
            return reco_fail(ctx, RECO_E_MISMATCH,
                             "%s: was made with encoder %s (%s), the bank with %s (%s)", what,
                             name_or_unnamed(p->encoder), printed(p->fingerprint),
                             name_or_unnamed(b.encoder), printed(b.fingerprint));
    }
    const char *name = fusion ? reco_fusion_meta(fusion, "encoder") : NULL,
               *print = fusion ? reco_fusion_meta(fusion, "fingerprint") : NULL;
    if (!reco_encoder_matches(p->encoder, p->fingerprint, name ? name : "", print ? print : ""))
        return reco_fail(ctx, RECO_E_MISMATCH,
                         "%s: was made with encoder %s (%s), the fusion layer was trained with %s (%s)",
                         what, name_or_unnamed(p->encoder), printed(p->fingerprint), name_or_unnamed(name),
                         printed(print));
    return RECO_OK;
}

/* The folder whose reco.json speaks of this: itself, or of a file the one that it lies in, or that of its layout. */
static char *home(reco_ctx *ctx, const char *path)
{
    if (reco_path_is_dir(path)) return reco_strdup(ctx, path);
    char *dir = reco_path_dir(ctx, path);
    const char *slash = dir ? strrchr(dir, '/') : NULL, *name = slash ? slash + 1 : dir;
    if (!dir || (strcmp(name, "img_emb") != 0 && strcmp(name, "text_emb") != 0)) return dir;
    char *parent = reco_path_dir(ctx, dir);
    reco_free(dir);
    return parent;
}

reco_status reco_check_embeddings(reco_ctx *ctx, const char *embeddings, const char *encoder,
                                  const reco_bank *bank, const reco_fusion *fusion)
{
    reco_status status = RECO_OK;
    reco_bank *other = NULL;
    reco_provenance p = {0};
    char *dir = home(ctx, embeddings), *database = dir ? reco_path_join(ctx, dir, "bank.sqlite") : NULL;
    if (!dir || !database) RECO_GO(RECO_E_NOMEM);
    if (reco_path_is_dir(embeddings) && reco_path_exists(database)) {
        RECO_GO(reco_bank_open(ctx, &other, embeddings));
        reco_bank_info info = *reco_bank_get_info(other);
        memcpy(p.encoder, info.encoder, sizeof p.encoder);
        memcpy(p.fingerprint, info.fingerprint, sizeof p.fingerprint);
    } else
        RECO_GO(reco_provenance_of(ctx, dir, encoder, &p));
    status = reco_provenance_check(ctx, &p, embeddings, bank, fusion);
out:
    reco_bank_close(other);
    reco_free(dir);
    reco_free(database);
    return status;
}
