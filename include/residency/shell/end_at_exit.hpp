#pragma once

#include "residency/backend.hpp"
#include "residency/runtime/at_exit.hpp"
#include "residency/shell/slot_runtime.hpp"

#include <memory>
#include <tuple>

namespace residency::detail {

/// Has the slots of a manager ended before objects with static storage are destroyed, if one of their backends has an
/// engine to close.
template <class Runtime, class... Slots>
void end_at_exit(const std::shared_ptr<Runtime>& runtime, const std::shared_ptr<Slots>&... shells) {
    const auto add = [&]<class Backend>(const Backend* /*tag*/) {
        if constexpr (ClosesEngine<Backend>) {
            runtime::AtExit::add(
                runtime,
                [runtime = runtime.get(), weak = std::tuple(std::weak_ptr(shells)...)] {
                    std::apply(
                        [&](const auto&... slot) {
                            [&](const auto&... shared) {
                                // All are gone, or none.
                                if ((shared && ...)) {
                                    runtime->end(Ending::exit, *shared...);
                                }
                            }(slot.lock()...);
                        },
                        weak);
                },
                []() noexcept { Backend::close_engine(); });
        }
    };
    (add(static_cast<const typename Slots::backend_type*>(nullptr)), ...);
}

}  // namespace residency::detail
