// The norms of each tensor that diagnostics=True reports: of the parameter and gradient before a
// step (this pass also copies the parameter), and of the parameter's change after it.
#pragma once
#include "core/rule.h"

ONEPASS_BEGIN

struct WatchBefore : Rule {
  static constexpr auto operands = names("params", "grads", "copies");
  static constexpr auto hyper = names();
  static constexpr auto norms = names("params", "grads");
  template <class T>
  struct Measure {
    ONEPASS_HD Terms<T, 2> operator()(T p, T g, T& copy) const {
      copy = p;
      return {{p, g}};
    }
  };
};
struct WatchAfter : Rule {
  static constexpr auto operands = names("params", "grads", "copies");
  static constexpr auto hyper = names();
  static constexpr auto norms = names("changes");
  template <class T>
  struct Measure {
    ONEPASS_HD Terms<T, 1> operator()(T p, Unread, T copy) const { return {{p - copy}}; }
  };
};

ONEPASS_END
