// Cross entropy on the row walk.
#pragma once
#include "cpu/cross_entropy_work.h"

ONEPASS_BEGIN
namespace {

void cross_entropy(const CrossEntropy& call) { rows::run_loss<rows::CrossEntropyWork>(call); }

}  // namespace
ONEPASS_END
