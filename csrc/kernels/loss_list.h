// The list that registers losses of elements: to add one, add its name here. Its position is its
// index in Backend::pointwise_loss.
#pragma once
#include "core/list.h"
#include "kernels/bce_loss.h"
#include "kernels/bce_with_logits.h"
#include "kernels/huber_loss.h"
#include "kernels/kl_div.h"
#include "kernels/l1_loss.h"
#include "kernels/mse_loss.h"
#include "kernels/smooth_l1_loss.h"

ONEPASS_BEGIN

using Losses = List<MseLoss, L1Loss, SmoothL1Loss, HuberLoss, BceLoss, BceWithLogits, KlDiv>;

ONEPASS_END
