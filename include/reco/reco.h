/* reco/reco.h: everything. */
#ifndef RECO_H
#define RECO_H
#include "reco/bank.h"
#include "reco/base.h"
#include "reco/clip.h"
#include "reco/eval.h"
#include "reco/fusion.h"
#include "reco/image.h"
#include "reco/pipeline.h"
#include "reco/query.h"
#include "reco/study.h"
#include "reco/text.h"
#include "reco/train.h"
#endif
