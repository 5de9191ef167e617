#pragma once

#include "residency/backends/json.hpp"
#include "residency/backends/openvino/batch.hpp"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <boost/system/error_code.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail::openvino {

/// How a query and a document become one sequence.
class PairTemplate {
public:
    /// As a tokenizer's `processed_post_processor_template` says it:
    /// `{"pair": {"ids": [101, -1, 102, -2, 102], "type_ids": [0, 0, 0, 1, 1]}}`, where -1 is the query and -2 the
    /// document. None if it says nothing of pairs, or does not have each of the two once and in this order.
    [[nodiscard]] static std::optional<PairTemplate> parse(std::string_view text) {
        boost::system::error_code error;
        const boost::json::value json = parse_json(text, error);
        const boost::json::value* const pair = member_of(json, "pair");
        const boost::json::value* const ids = pair != nullptr ? member_of(*pair, "ids") : nullptr;
        const boost::json::value* const types = pair != nullptr ? member_of(*pair, "type_ids") : nullptr;
        if (ids == nullptr) {
            return {};
        }
        Sequence form{integers(*ids), types != nullptr ? integers(*types) : Tokens()};
        form.types.resize(form.tokens.size());
        return of(form);
    }

    /// Learned of a pair that a tokenizer joined, `query` and `document` being the own tokens of its texts. None if
    /// they are not found in it.
    [[nodiscard]] static std::optional<PairTemplate> learn(const Sequence& joined, std::span<const std::int64_t> query,
                                                           std::span<const std::int64_t> document) {
        const auto first = std::search(joined.tokens.begin(), joined.tokens.end(), query.begin(), query.end());
        if (query.empty() || document.empty() || first == joined.tokens.end()) {
            return {};
        }
        const auto after = first + static_cast<std::ptrdiff_t>(query.size());
        const auto second = std::search(after, joined.tokens.end(), document.begin(), document.end());
        if (second == joined.tokens.end()) {
            return {};
        }
        Sequence form{joined.tokens, joined.types};
        form.types.resize(form.tokens.size());
        const auto replace = [&form](std::ptrdiff_t at, std::size_t count, std::int64_t mark) {
            form.tokens[static_cast<std::size_t>(at)] = mark;
            const auto rest = static_cast<std::ptrdiff_t>(count);
            form.tokens.erase(form.tokens.begin() + at + 1, form.tokens.begin() + at + rest);
            form.types.erase(form.types.begin() + at + 1, form.types.begin() + at + rest);
        };
        const std::ptrdiff_t at_query = first - joined.tokens.begin();
        replace(second - joined.tokens.begin(), document.size(), document_mark);
        replace(at_query, query.size(), query_mark);
        return of(form);
    }

    /// How many tokens it adds to the texts' own.
    [[nodiscard]] std::size_t added() const noexcept { return form_.tokens.size() - 2; }

    /// The sequence of both.
    [[nodiscard]] Sequence join(std::span<const std::int64_t> query, std::span<const std::int64_t> document) const {
        Sequence joined;
        const std::size_t size = added() + query.size() + document.size();
        joined.tokens.reserve(size);
        joined.types.reserve(size);
        for (std::size_t at = 0; at < form_.tokens.size(); ++at) {
            const std::span<const std::int64_t> part = form_.tokens[at] == query_mark      ? query
                                                       : form_.tokens[at] == document_mark ? document
                                                                                           : only(at);
            joined.tokens.insert(joined.tokens.end(), part.begin(), part.end());
            joined.types.insert(joined.types.end(), part.size(), form_.types[at]);
        }
        return joined;
    }

private:
    static constexpr std::int64_t query_mark = -1;
    static constexpr std::int64_t document_mark = -2;

    explicit PairTemplate(Sequence form) : form_(std::move(form)) {}

    static std::optional<PairTemplate> of(const Sequence& form) {
        const auto query = std::find(form.tokens.begin(), form.tokens.end(), query_mark);
        const auto document = std::find(form.tokens.begin(), form.tokens.end(), document_mark);
        const auto marks =
            std::count_if(form.tokens.begin(), form.tokens.end(), [](std::int64_t token) { return token < 0; });
        if (marks != 2 || query == form.tokens.end() || document == form.tokens.end() || document < query) {
            return {};
        }
        return PairTemplate(form);
    }

    static Tokens integers(const boost::json::value& array) {
        Tokens found;
        if (const boost::json::array* const elements = array.if_array()) {
            for (const boost::json::value& element : *elements) {
                // What is no token becomes a mark of nothing, which `of` refuses.
                const std::int64_t* const token = element.if_int64();
                found.push_back(token != nullptr && *token <= 1'000'000'000 ? *token : -3);
            }
        }
        return found;
    }

    [[nodiscard]] std::span<const std::int64_t> only(std::size_t at) const noexcept {
        return {form_.tokens.data() + at, 1};
    }

    Sequence form_;
};

}  // namespace residency::detail::openvino
