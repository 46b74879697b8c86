#include "cpu/activation_blocks.h"

ONEPASS_BEGIN
namespace {

alignas(64) ActivationTable table;  // away from words that other threads write

}  // namespace

ActivationTable* activation_table() { return &table; }

ONEPASS_END
