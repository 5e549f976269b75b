// Checked mode of dense plans: whatever lengths, boundaries and pages hold, the device names the fault that comes first
// by the rules, and nothing where all is well.
#include "emulator.h"

#include "backends/gpu/dense/check.cuh"
#include "tests/conformance/property.h"

#include <attn/attn.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace gpu_emulated {
namespace {

using conformance::Random;
using conformance::session;
using Status = std::array<std::int32_t, 4>; // status, slot, position, value

// The numbers of a call; empty: not bound.
struct Numbers {
    std::vector<std::int64_t> cu_q, cu_kv, used_q, used_kv, table_ptr, table;
    std::int64_t batch = 0, max_q = 0, max_kv = 0, total_q = 0, total_kv = 0, page = 0, pages = 0, columns = 0;
};

// Right ones.
Numbers draw(Random &random)
{
    Numbers n;
    n.batch = random.integer(0, 4);
    n.max_q = random.integer(1, 9), n.max_kv = random.integer(1, 40);
    const auto boundaries = [&](std::int64_t longest, std::vector<std::int64_t> &cu) {
        cu = {random.integer(0, 3)};
        for (std::int64_t b = 0; b < n.batch; ++b) cu.push_back(cu.back() + random.integer(0, longest));
        return cu.back() + random.integer(0, 3);
    };
    const auto lengths = [&](std::vector<std::int64_t> &used, auto most) {
        for (std::int64_t b = 0; b < n.batch; ++b) used.push_back(random.integer(0, most(b)));
    };
    const bool packed_q = random.chance(0.4), paged = random.chance(0.5), packed_kv = !paged && random.chance(0.5);
    if (packed_q) n.total_q = boundaries(n.max_q, n.cu_q);
    if (packed_kv) n.total_kv = boundaries(n.max_kv, n.cu_kv);
    if (random.chance(0.5))
        lengths(n.used_q, [&](std::int64_t b) { return packed_q ? n.cu_q[b + 1] - n.cu_q[b] : n.max_q; });
    const bool has_used = random.chance(0.5);
    if (!paged) {
        if (has_used)
            lengths(n.used_kv, [&](std::int64_t b) { return packed_kv ? n.cu_kv[b + 1] - n.cu_kv[b] : n.max_kv; });
        return n;
    }
    n.page = random.integer(1, 7), n.pages = random.integer(1, 50);
    const bool flat = random.chance(0.5);
    const std::int64_t most_pages = n.max_kv / n.page + (has_used ? 3 : 0);
    std::int64_t entries = 0;
    if (flat)
        entries = boundaries(most_pages, n.table_ptr);
    else
        n.columns = random.integer(0, most_pages), entries = n.batch * n.columns;
    for (std::int64_t i = 0; i < entries; ++i) n.table.push_back(random.integer(0, n.pages - 1));
    if (has_used)
        lengths(n.used_kv, [&](std::int64_t b) {
            return std::min((flat ? n.table_ptr[b + 1] - n.table_ptr[b] : n.columns) * n.page, n.max_kv);
        });
    return n;
}

// What the rules say, one number after the other.
Status expected(const Numbers &n)
{
    const auto fault = [](attn_slot slot, std::int64_t position, std::int64_t value) {
        return Status{ATTN_ERROR_DATA, slot, static_cast<std::int32_t>(position), static_cast<std::int32_t>(value)};
    };
    const Status fine{};
    const auto boundaries = [&](const std::vector<std::int64_t> &cu, std::int64_t rows, std::int64_t longest,
                                attn_slot slot) {
        for (std::size_t i = 0; i < cu.size(); ++i) {
            const std::int64_t before = i ? cu[i - 1] : 0;
            if (cu[i] < before || cu[i] > rows || (i && cu[i] - before > longest))
                return fault(slot, static_cast<std::int64_t>(i), cu[i]);
        }
        return fine;
    };
    const bool flat = !n.table_ptr.empty();
    const auto entries = static_cast<std::int64_t>(n.table.size());
    const std::int64_t limit = n.used_kv.empty() && n.page ? n.max_kv / n.page : std::int64_t{1} << 40;
    for (const Status &s : {boundaries(n.cu_q, n.total_q, n.max_q, ATTN_SLOT_CU_SEQLENS_Q),
                            boundaries(n.cu_kv, n.total_kv, n.max_kv, ATTN_SLOT_CU_SEQLENS_KV),
                            boundaries(n.table_ptr, entries, limit, ATTN_SLOT_BLOCK_TABLE_PTR)})
        if (s != fine) return s;
    for (std::size_t b = 0; b < n.used_q.size(); ++b) {
        const std::int64_t most = n.cu_q.empty() ? n.max_q : n.cu_q[b + 1] - n.cu_q[b];
        if (n.used_q[b] < 0 || n.used_q[b] > most)
            return fault(ATTN_SLOT_SEQLENS_Q, static_cast<std::int64_t>(b), n.used_q[b]);
    }
    const auto listed = [&](std::size_t b) { return flat ? n.table_ptr[b + 1] - n.table_ptr[b] : n.columns; };
    const auto most = [&](std::size_t b) {
        if (n.page) return std::min(listed(b) * n.page, n.max_kv);
        return n.cu_kv.empty() ? n.max_kv : n.cu_kv[b + 1] - n.cu_kv[b];
    };
    for (std::size_t b = 0; b < n.used_kv.size(); ++b)
        if (n.used_kv[b] < 0 || n.used_kv[b] > most(b))
            return fault(ATTN_SLOT_SEQLENS_KV, static_cast<std::int64_t>(b), n.used_kv[b]);
    if (!n.page) return fine;
    for (std::size_t b = 0; b < static_cast<std::size_t>(n.batch); ++b) {
        const std::int64_t begin = flat ? n.table_ptr[b] : static_cast<std::int64_t>(b) * n.columns;
        if (!flat && n.used_kv.empty() && n.columns > n.max_kv / n.page)
            return fault(ATTN_SLOT_BLOCK_TABLE, begin, n.columns);
        const std::int64_t keys = n.used_kv.empty() ? most(b) : n.used_kv[b];
        for (std::int64_t i = 0; i < (keys + n.page - 1) / n.page; ++i) {
            const std::int64_t page = n.table[static_cast<std::size_t>(begin + i)];
            if (page < 0 || page >= n.pages) return fault(ATTN_SLOT_BLOCK_TABLE, begin + i, page);
        }
    }
    return fine;
}

Status found(const Numbers &n, Random &random)
{
    std::vector<std::vector<char>> memory;
    const auto vector = [&](const std::vector<std::int64_t> &values) {
        attn::gpu::IntegerVector v = {};
        if (values.empty()) return v;
        v.wide = random.chance(0.5);
        const std::size_t bytes = v.wide ? 8 : 4, step = bytes * static_cast<std::size_t>(random.integer(1, 2));
        // Of exactly that size, so that a sanitizer sees what goes beyond.
        memory.emplace_back((values.size() - 1) * step + bytes);
        for (std::size_t i = 0; i < values.size(); ++i) {
            const auto narrow = static_cast<std::int32_t>(values[i]);
            std::memcpy(memory.back().data() + i * step, v.wide ? static_cast<const void *>(&values[i]) : &narrow,
                        bytes);
        }
        v.base = memory.back().data();
        v.step = static_cast<long long>(step);
        return v;
    };
    attn::gpu::CheckParams p = {};
    p.sequences.batch = static_cast<int>(n.batch);
    p.sequences.max_q = static_cast<int>(n.max_q), p.sequences.max_kv = static_cast<int>(n.max_kv);
    p.sequences.page_size = static_cast<int>(n.page), p.sequences.pages = n.pages;
    p.sequences.table_columns = static_cast<int>(n.columns);
    p.sequences.total_q = n.total_q, p.sequences.total_kv = n.total_kv;
    p.sequences.table_entries = static_cast<long long>(n.table.size());
    p.sequences.cu_q = vector(n.cu_q), p.sequences.cu_kv = vector(n.cu_kv);
    p.sequences.used_q = vector(n.used_q), p.sequences.used_kv = vector(n.used_kv);
    p.sequences.table_ptr = vector(n.table_ptr), p.sequences.table = vector(n.table);
    p.sequences.table_row_step = n.columns * p.sequences.table.step;
    p.longest_q = n.max_q, p.longest_kv = n.max_kv;
    if (n.page) p.most_pages = n.used_kv.empty() ? n.max_kv / n.page : std::int64_t{1} << 40;
    Status status;
    status.fill(0x5a5a5a5a);
    p.status.base = reinterpret_cast<char *>(status.data());
    p.status.token_step = sizeof status[0];
    attn::gpu::Grid grid;
    grid.threads = attn::gpu::kFaultThreads;
    void *parameters[] = {&p};
    run_grid<attn::gpu::DenseCheck>(grid, parameters, random.chance(0.5) ? Order::forward : Order::backward);
    return status;
}

// One or two numbers of some vector become something else, which may be right too.
void spoil(Numbers &n, Random &random)
{
    std::vector<std::vector<std::int64_t> *> filled;
    for (auto *v : {&n.cu_q, &n.cu_kv, &n.used_q, &n.used_kv, &n.table_ptr, &n.table})
        if (!v->empty()) filled.push_back(v);
    if (filled.empty()) return;
    for (std::int64_t times = random.integer(1, 2); times > 0; --times) {
        auto &v = *filled[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(filled.size()) - 1))];
        auto &value = v[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(v.size()) - 1))];
        value = random.chance(0.3) ? random.integer(-1000000, 1000000) : value + random.integer(-3, 3);
    }
}

TEST(EmulatedChecked, DensePlansNameTheFirstFault)
{
    Random random(session().seed, 41);
    int faults = 0;
    for (int round = 0; round < 1500 && !HasFailure(); ++round) {
        Numbers n = draw(random);
        SCOPED_TRACE(testing::Message() << "ATTN_TEST_SEED=" << session().seed << ", round " << round);
        EXPECT_EQ(found(n, random), Status{}) << "where all is well";
        spoil(n, random);
        const Status wanted = expected(n);
        EXPECT_EQ(found(n, random), wanted);
        faults += wanted[0] != 0;
    }
    EXPECT_GT(faults, 300);
}

TEST(EmulatedChecked, DensePlansSeeMorePagesThanTheyMayHave)
{
    Random random(session().seed, 42);
    Numbers n;
    n.batch = 2, n.max_q = 1, n.max_kv = 10, n.page = 4, n.pages = 9, n.columns = 3; // of which 2 are within max_kv
    n.table.assign(6, 1);
    EXPECT_EQ(found(n, random), (Status{ATTN_ERROR_DATA, ATTN_SLOT_BLOCK_TABLE, 0, 3}));
    n.used_kv = {10, 0};
    EXPECT_EQ(found(n, random), Status{});
}

} // namespace
} // namespace gpu_emulated
