// The list that registers optimizers: to add one, add its rule here. Its position is its index in
// Backend::update.
//
// The unit of one formula (cpu/formula.cpp.in) includes only that formula's header; here it needs
// just the names of the others.
#pragma once
#include "core/list.h"
#include "core/rule.h"
#ifndef ONEPASS_FORMULA
#include "kernels/adadelta.h"
#include "kernels/adafactor.h"
#include "kernels/adagrad.h"
#include "kernels/adam.h"
#include "kernels/adamax.h"
#include "kernels/ademamix.h"
#include "kernels/adopt.h"
#include "kernels/asgd.h"
#include "kernels/lamb.h"
#include "kernels/lars.h"
#include "kernels/lion.h"
#include "kernels/muon.h"
#include "kernels/nadam.h"
#include "kernels/radam.h"
#include "kernels/rmsprop.h"
#include "kernels/rprop.h"
#include "kernels/schedule_free_adamw.h"
#include "kernels/schedule_free_sgd.h"
#include "kernels/sgd.h"
#endif

ONEPASS_BEGIN

using Updates =
    Rules<struct Sgd, struct Adam, struct AdamW, struct Rmsprop, struct NAdam, struct Lion,
          struct Adagrad, struct Adadelta, struct Adamax, struct RAdam, struct Adopt, struct Muon,
          struct Lars, struct Lamb, struct Asgd, struct Rprop, struct AdEMAMix,
          struct ScheduleFreeSgd, struct ScheduleFreeAdamW, struct Adafactor>;

ONEPASS_END
