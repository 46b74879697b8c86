// Adam and AdamW, which differ in their weight decay alone: adam_rule.h.
#pragma once
#include "kernels/adam_rule.h"

ONEPASS_BEGIN

struct Adam : AdamRule<false> {
  static constexpr const char* name = "adam";
};
struct AdamW : AdamRule<true> {
  static constexpr const char* name = "adamw";
};

ONEPASS_END
