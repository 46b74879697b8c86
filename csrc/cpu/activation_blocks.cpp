#include "cpu/activation_blocks.h"

ONEPASS_BEGIN
namespace {

ActivationTable table;

}  // namespace

ActivationTable* activation_table() { return &table; }

ONEPASS_END
