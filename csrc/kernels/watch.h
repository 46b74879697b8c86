// What a step does to each tensor, as norms: of the parameter and of the gradient before it, which
// keeps a copy, and of the parameter's change after it.
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
