#pragma once

// Lets a story happen again and again, with another allocation failing each time, until none is left that could.

#include "support/allocation_faults.hpp"
#include "support/catch.hpp"

#include <cstddef>

namespace residency::test {

/// Calls `live_through(story, nth, pattern)` for each of `stories`, which have a `name`: with each allocation of it
/// failing alone, and with all that follow. It gives whether one failed.
template <class Stories, class LiveThrough>
void fail_each_allocation(const Stories& stories, LiveThrough live_through) {
    for (const auto& story : stories) {
        for (const FaultPattern pattern : {FaultPattern::only, FaultPattern::from}) {
            std::size_t nth = 1;
            for (bool failed = true; failed; ++nth) {
                INFO(story.name << ": allocation " << nth << " fails"
                                << (pattern == FaultPattern::from ? " and all that follow" : " alone"));
                REQUIRE(nth < 1000);
                failed = live_through(story, nth, pattern);
            }
            INFO(story.name);
            // There were some: each story needs memory for events, if for nothing else.
            CHECK(nth > 2);
        }
    }
}

}  // namespace residency::test
