#pragma once

#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <utility>

namespace residency::detail {

/// What is wrong with a request, or null.
[[nodiscard]] inline std::exception_ptr invalid(const ModelKey& key, const RequestOptions& options) {
    const auto because = [&key](const std::string& detail) {
        return make_error(Error(errc::invalid_request, key, Stage::admission, detail));
    };
    if (key.name.empty()) {
        return because("the model key has an empty name");
    }
    if (key.name.size() > ModelKey::max_part_length || key.quantization.size() > ModelKey::max_part_length) {
        return because("the model key is " + std::to_string(key.name.size() + key.quantization.size()) +
                       " bytes long; a name or a quantization has at most " +
                       std::to_string(ModelKey::max_part_length));
    }
    if (options.keep_alive && *options.keep_alive < std::chrono::milliseconds::zero()) {
        return because("RequestOptions::keep_alive is negative (zero unloads when free, keep_alive_forever never)");
    }
    if (options.priority != Priority::high && options.priority != Priority::normal &&
        options.priority != Priority::low) {
        return because("RequestOptions::priority is none of high, normal and low");
    }
    return nullptr;
}

/// Cancels a request, whose operation it owns.
class CancelRequest {
public:
    CancelRequest(SlotBase& slot, Waiter& operation) : slot_(slot), operation_(&operation) {}
    void operator()(bool terminal) const { slot_.cancel(*operation_, terminal); }

private:
    // The operation owns it.
    SlotBase& slot_;
    boost::intrusive_ptr<Waiter> operation_;
};

/// Makes a request's operation of a handler and lets the slot have it. The handler is kept in memory of its own
/// allocator; the rest is the library's, which may need it for longer than the caller waits. Throws only what making it
/// throws, or bad_alloc, and then nothing has begun.
template <class Operation, class Handler, class... Arguments>
void submit(Handler handler, const std::shared_ptr<SlotBase>& slot, const ModelKey& key, const RequestOptions& options,
            Arguments&&... arguments) {
    auto* const operation = new Operation(std::move(handler), slot, std::forward<Arguments>(arguments)...);
    const boost::intrusive_ptr<Waiter> owner(operation);
    operation->handler().template on_cancel<CancelRequest>(*slot, *owner);
    try {
        slot->submit(owner, key, options);
    } catch (...) {
        operation->handler().forget_cancel();
        throw;
    }
}

}  // namespace residency::detail
