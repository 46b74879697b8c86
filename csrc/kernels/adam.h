// Adam and AdamW: adam_rule.h has the formula; they differ only in weight decay.
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
