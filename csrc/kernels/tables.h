// The memory of a Backend's tables: an entry for each formula that the lists name.
#pragma once
#include "kernels/activation_list.h"
#include "kernels/channel_norm_list.h"
#include "kernels/loss_list.h"
#include "kernels/row_norm_list.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN

struct Tables {
  Run<Elementwise> activation[count_of(Activations{})] = {};
  Run<Elementwise> activation_backward[count_of(Activations{})] = {};
  Run<Elementwise> activation_backward_y[count_of(Activations{})] = {};
  const Run<Elementwise>* update[count_of(Updates{})] = {};
  const Run<Elementwise>* measure[count_of(Updates{})] = {};
  const Run<Elementwise>* factor[count_of(Updates{})] = {};
  Run<ChannelNorm> channel_norm[count_of(ChannelNorms{})] = {};
  Run<ChannelNorm> channel_norm_backward[count_of(ChannelNorms{})] = {};
  Run<RowNorm> row_norm[count_of(RowNorms{})] = {};
  Run<RowNorm> row_norm_backward[count_of(RowNorms{})] = {};
  Run<PointwiseLoss> pointwise_loss[count_of(Losses{})] = {};

  // They live as long as the backend does.
  void lend(Backend* backend) {
    backend->activation = activation;
    backend->activation_backward = activation_backward;
    backend->activation_backward_y = activation_backward_y;
    backend->update = update;
    backend->measure = measure;
    backend->factor = factor;
    backend->channel_norm = channel_norm;
    backend->channel_norm_backward = channel_norm_backward;
    backend->row_norm = row_norm;
    backend->row_norm_backward = row_norm_backward;
    backend->pointwise_loss = pointwise_loss;
  }
};

ONEPASS_END
