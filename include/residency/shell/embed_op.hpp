#pragma once

#include "residency/backend.hpp"
#include "residency/backend_calls.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/text_lengths.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/not_a_number.hpp"
#include "residency/options.hpp"
#include "residency/shell/inference_op.hpp"
#include "residency/shell/model_call.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/slot_ref.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <iterator>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail {

/// One `embed`: the texts, and the call with its result checked.
template <class Model>
struct EmbedWork {
    using model_type = Model;
    using result_type = Embeddings;
    /// What the model gives.
    using given_type = Embeddings;
    static constexpr bool is_asynchronous = is_given_later<decltype(call_embed(
        std::declval<Model&>(), std::span<const std::string>(), EmbedAs::as_is, std::stop_token()))>();
    static constexpr bool may_be_asynchronous = is_asynchronous || SaysHowItAnswers<Model>;
    static constexpr bool stoppable =
        is_asynchronous || (takes_embed_as<Model> ? EmbedsAsWithToken<Model> : EmbedsWithToken<Model>);
    static constexpr bool joins = joins_requests<Model>;
    static constexpr bool splits = SaysBatchLimits<Model>;
    static constexpr std::string_view noun = "text";

    std::vector<std::string> texts;
    EmbedAs as;

    [[nodiscard]] core::Index size() const noexcept { return static_cast<core::Index>(texts.size()); }
    [[nodiscard]] core::Index bytes() const noexcept { return bytes_of(texts); }
    [[nodiscard]] EmbedAs kind() const noexcept { return as; }
    [[nodiscard]] std::size_t hash() const noexcept { return hash_of(texts, static_cast<std::size_t>(as)); }

    // -- What parts need --
    /// The rows of the parts that have ended. From any thread.
    class Assembly {
    public:
        explicit Assembly(const EmbedWork& /*work*/) noexcept {}
        /// The rows of texts from `place` on, which the residency `by` gave. Throws bad_alloc; if they have another
        /// dimension than those before, model_changed, or bad_result if those are of the same residency.
        void put(const core::TextLengths& lengths, std::size_t place, const Embeddings& rows, std::size_t of,
                 Generation by) {
            {
                const std::lock_guard lock(mutex_);
                if (all_.empty()) {
                    all_ = Embeddings(of, rows.dimension());
                    by_ = by;
                }
            }
            if (rows.dimension() != all_.dimension()) {
                const std::string lengths_differ =
                    std::to_string(rows.dimension()) + " floats after " + std::to_string(all_.dimension());
                if (by == by_) {
                    bad_result("the model gave rows of " + lengths_differ);
                }
                throw Error(
                    errc::model_changed, ModelKey(), Stage::inference,
                    "the model was switched between two parts of the request, and its vectors have " + lengths_differ);
            }
            for (std::size_t row = 0; row < rows.size(); ++row) {
                std::copy(rows[row].begin(), rows[row].end(), all_[lengths[place + row]].begin());
            }
        }
        [[nodiscard]] Embeddings finish() noexcept { return std::move(all_); }

    private:
        std::mutex mutex_{};
        Embeddings all_{};
        Generation by_{};
    };

    [[nodiscard]] std::span<const std::string> cut_texts() const noexcept { return texts; }
    [[nodiscard]] std::vector<std::string>& own() noexcept { return texts; }

    // -- One model call for some texts of this request --
    template <bool asynchronously>
    [[nodiscard]] auto call(Model& model, std::span<const std::string> some, const std::stop_token& stop) const {
        if constexpr (asynchronously && SaysHowItAnswers<Model>) {
            return model.embed_later(some, as, stop);
        } else {
            return call_embed(model, some, as, stop);
        }
    }
    /// Throws bad_result unless these can be the rows of so many texts.
    static void demand(const Embeddings& rows, std::size_t count) {
        demand_rows(rows, count);
        demand_numbers(rows);
    }
    /// The result of a call for all texts. Throws bad_result.
    [[nodiscard]] Embeddings result_of(Embeddings&& rows) const {
        demand(rows, texts.size());
        return std::move(rows);
    }

    // -- One model call for several requests --
    using input_type = std::vector<std::string>;
    using Calls = CallMembers<EmbedWork>;

    /// Moves their texts together. Throws bad_alloc, and then has moved none.
    [[nodiscard]] static input_type gather(const Calls& calls) {
        input_type all;
        std::size_t count = 0;
        calls.for_each([&](const auto& call) { count += call.work.texts.size(); });
        all.reserve(count);
        calls.for_each(
            [&](auto& call) { std::move(call.work.texts.begin(), call.work.texts.end(), std::back_inserter(all)); });
        return all;
    }
    /// Moves them back.
    static void give_back(const Calls& calls, input_type& all) noexcept {
        auto next = all.begin();
        calls.for_each([&](auto& call) {
            const auto end = next + static_cast<std::ptrdiff_t>(call.work.texts.size());
            std::move(next, end, call.work.texts.begin());
            next = end;
        });
    }
    template <bool asynchronously>
    [[nodiscard]] static auto call_for(const Calls& calls, Model& model, const input_type& all,
                                       const std::stop_token& stop) {
        return calls.first.work.template call<asynchronously>(model, all, stop);
    }
    /// Gives each its rows. Throws bad_result, and then none has got anything.
    static void share(const Calls& calls, const Embeddings& rows, const input_type& all) {
        demand_rows(rows, all.size());
        std::span<const float> values = rows.values();
        calls.for_each([&](auto& call) {
            const std::size_t own = call.work.texts.size() * rows.dimension();
            try {
                call.answer.result =
                    Embeddings(rows.dimension(), {values.begin(), values.begin() + std::ptrdiff_t(own)});
                demand_numbers(call.answer.result);
            } catch (...) {
                call.answer.result = {};
                call.answer.error = call.failure(std::current_exception());
            }
            values = values.subspan(own);
        });
    }

private:
    static void demand_rows(const Embeddings& embeddings, std::size_t texts) {
        if (embeddings.size() != texts) {
            bad_result("the model gave " + std::to_string(embeddings.size()) + " rows for " + std::to_string(texts) +
                       " texts");
        }
    }
    static void demand_numbers(const Embeddings& embeddings) {
        const auto values = embeddings.values();
        const auto odd = std::find_if(values.begin(), values.end(), [](const float& value) { return is_nan(value); });
        if (odd != values.end()) {
            const auto position = static_cast<std::size_t>(odd - values.begin());
            bad_result("the model gave a NaN in its row", position / embeddings.dimension());
        }
    }
};

/// Starts `async_embed`.
template <class Slot, class Model>
struct InitiateEmbed {
    SlotRef<Slot> slot;

    template <class Handler>
    void operator()(Handler&& handler, const ModelKey& key, std::vector<std::string> texts,
                    const RequestOptions& options) const {
        std::exception_ptr error = invalid(key, options);
        if (!error && options.as != EmbedAs::as_is) {
            error = invalid_as(key, options.as);
        }
        const bool nothing_to_do = texts.empty();
        start_inference(std::forward<Handler>(handler), slot.owner(), key, options, std::move(error), nothing_to_do,
                        EmbedWork<Model>{std::move(texts), options.as});
    }

private:
    // What is wrong with `as`, which is not `as_is`, or null.
    [[nodiscard]] static std::exception_ptr invalid_as(const ModelKey& key, EmbedAs as) {
        if (as != EmbedAs::query && as != EmbedAs::document) {
            return make_error(Error(errc::invalid_request, key, Stage::admission,
                                    "RequestOptions::as is none of as_is, query and document"));
        }
        if constexpr (takes_embed_as<Model>) {
            return nullptr;
        } else {
            return make_error(Error(errc::invalid_request, key, Stage::admission,
                                    "the slot's models make no difference between queries and documents; leave "
                                    "RequestOptions::as at as_is"));
        }
    }
};

}  // namespace residency::detail
