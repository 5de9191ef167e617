#pragma once

#include <cstddef>

namespace residency::cost {

/// How many operations one turn of a benchmark does.
inline constexpr std::size_t chain_length = 1024;

/// Operations each of which is started by the handler of one before, `width` of them at a time. With many at a time an
/// io_context seldom asks the kernel for news between two of them, which would cost more than what is measured. `Start`
/// is called with the chain, whose `done` its handler calls.
template <class Start>
class Chain {
public:
    explicit Chain(std::size_t width, Start start) : width_(width), start_(start) {}

    /// Begins, and lets `run` do what there is to do until all operations are done.
    template <class Run>
    void operator()(Run&& run) {
        to_start_ = to_end_ = chain_length;
        for (std::size_t index = 0; index < width_; ++index) {
            next();
        }
        while (to_end_ != 0) {
            run();
        }
    }
    /// Called by the operation's handler.
    void done() {
        --to_end_;
        if (to_start_ != 0) {
            next();
        }
    }

private:
    void next() {
        --to_start_;
        start_(*this);
    }

    std::size_t width_;
    Start start_;
    std::size_t to_start_ = 0;
    std::size_t to_end_ = 0;
};

}  // namespace residency::cost
