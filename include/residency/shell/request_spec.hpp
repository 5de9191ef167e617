#pragma once

#include "residency/core/request.hpp"
#include "residency/core/time.hpp"
#include "residency/options.hpp"

namespace residency::detail {

/// What a request with these options wants of the scheduler. `clock()` gives the time, and is asked only if there is a
/// timeout.
template <class Clock>
[[nodiscard]] core::RequestSpec spec_of(const RequestOptions& options, bool wants_lease, bool is_inference,
                                        const Clock& clock) {
    core::RequestSpec spec;
    spec.wants_lease = wants_lease;
    spec.is_inference = is_inference;
    spec.priority = options.priority;
    if (options.timeout) {
        spec.since = clock();
        spec.deadline = core::later(spec.since, core::to_duration(*options.timeout));
    }
    if (options.keep_alive) {
        spec.overrides_keep_alive = true;
        spec.keep_alive = core::to_duration(*options.keep_alive);
    }
    if (options.expected_generation) {
        spec.expects = true;
        spec.expected = *options.expected_generation;
    }
    return spec;
}

}  // namespace residency::detail
