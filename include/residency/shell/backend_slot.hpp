#pragma once

#include "residency/backend.hpp"
#include "residency/backend_calls.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/model_memory.hpp"
#include "residency/runtime/at_exit.hpp"
#include "residency/shell/slot_shell.hpp"

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// A slot's shell with its backend.
template <class Backend, class Clock>
class BackendSlot final : public SlotShell<Clock> {
public:
    using backend_type = Backend;
    using Model = typename Backend::model_type;

    static_assert(
        ClosesEngine<Backend> || !requires(Backend & asked) { asked.close_engine(); },
        "close_engine() must be static and noexcept");

    template <class... Arguments>
    explicit BackendSlot(Backend&& backend, Arguments&&... arguments)
        : SlotShell<Clock>({SaysWhatItKnows<Backend>, says_memory_needed(backend)},
                           std::forward<Arguments>(arguments)...),
          backend_(std::move(backend)) {}
    ~BackendSlot() override { this->destroy_all(); }

private:
    void* load_model(const ModelKey& key, LoadContext& context, ModelTraits& traits) override {
        std::unique_ptr<Model> model = call_load(backend_, key, context);
        if constexpr (ClosesEngine<Backend>) {
            runtime::AtExit::loaded();
        }
        if (model) {
            traits = {
                {concurrency_of(*model), batch_limits_of(*model), joins(*model), 0, !answers_asynchronously(*model)},
                distinguishes(*model)};
            if (this->has_budget()) {
                traits.limits.memory = memory_used_of(*model).value_or(0);
            }
        }
        // A backend may give models that nothing changes.
        return const_cast<std::remove_const_t<Model>*>(model.release());
    }
    [[nodiscard]] bool knows(const ModelKey& key) const override { return call_knows(backend_, key); }
    [[nodiscard]] std::size_t memory_needed(const ModelKey& key) override {
        const std::size_t own = call_memory_needed(backend_, key).value_or(0);
        const std::size_t bytes = own != 0 ? own : this->options().model_memory;
        if (bytes == 0) {
            throw Error(errc::load_failed, key, Stage::memory,
                        "the backend does not say how much memory the model needs; set SlotOptions::model_memory");
        }
        return bytes;
    }
    void destroy_model(void* model) noexcept override { delete static_cast<Model*>(model); }

    Backend backend_;
};

}  // namespace residency::detail
