/* server/routes.h: what the server can be asked; serve_routes of routes.c lists it. Each is parsed (in HTTP's threads), finished (in
 * the engine or the writer) and, where it needs pictures made small, ends late. */
#ifndef RECO_SERVER_ROUTES_H
#define RECO_SERVER_ROUTES_H

#include "internal.h"

typedef void serve_parse_fn(serve *s, serve_request *r);
typedef void serve_finish_fn(serve *s, serve_request *r, reco_ctx *ctx);

/* own.c */
json_t *serve_neighbours(const reco_pair *pairs, const float *scores, const float *weights, size_t n);
serve_parse_fn serve_search_parse, serve_refine_parse, serve_banks_parse, serve_rows_parse,
    serve_picture_parse;
serve_finish_fn serve_search_finish, serve_refine_finish, serve_rows_finish, serve_picture_finish,
    serve_picture_late;
/* classify.c */
serve_parse_fn serve_classify_parse;
serve_finish_fn serve_classify_finish;
/* facets.c */
serve_parse_fn serve_facets_parse;
serve_finish_fn serve_facets_finish;
/* pairs.c */
serve_parse_fn serve_add_parse, serve_delete_parse;
serve_finish_fn serve_add_finish, serve_delete_finish;
/* clip_retrieval.c: as clip-retrieval 2.45 has them in clip_back.py */
serve_parse_fn serve_knn_parse, serve_indices_parse, serve_metadata_parse, serve_front_parse,
    serve_summary_parse;
serve_finish_fn serve_knn_finish, serve_knn_late, serve_metadata_finish;
/* openai.c: POST /v1/embeddings of OpenAI's API, and what infinity adds for pictures */
serve_parse_fn serve_embeddings_parse, serve_models_parse;
serve_finish_fn serve_embeddings_finish;
/* immich.c: Immich's machine-learning service */
serve_parse_fn serve_ping_parse, serve_predict_parse;
serve_finish_fn serve_predict_finish;
/* info.c */
serve_parse_fn serve_health_parse, serve_metrics_parse, serve_page_parse, serve_reload_parse,
    serve_openapi_parse;

#endif
