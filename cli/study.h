/* cli/study.h: the tables and the page of `reco study`. */
#ifndef RECO_CLI_STUDY_H
#define RECO_CLI_STUDY_H

#include "cli.h"

/* Is the metric shown? Those of old and new are where there are queries of new concepts. */
bool study_shows(const reco_study *study, reco_study_metric metric);
const char *study_heading(reco_study_metric metric); /* for people: "harmonic mean" */
const char *study_group_title(const char *group);

json_t *study_json(const reco_study *study, const reco_study_result *result);
void study_text(const reco_study *study, FILE *out);
void study_csv(const reco_study *study, FILE *out);
void study_latex(const reco_study *study, FILE *out);
void study_page(const reco_study *study, const reco_study_result *result, FILE *out);

#endif
